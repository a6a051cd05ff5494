for (const group of document.querySelectorAll(".switch")) {
  const figures = [...group.querySelectorAll("figure")];
  const bar = document.createElement("div");
  bar.className = "buttons";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", group.dataset.label);
  const label = document.createElement("span");
  label.textContent = group.dataset.label;
  bar.append(label);
  const buttons = figures.map((figure) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = figure.dataset.name;
    button.setAttribute("aria-controls", figure.id);
    bar.append(button);
    return button;
  });
  const show = (chosen) => {
    figures.forEach((figure, place) => { figure.hidden = place !== chosen; });
    buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === chosen)));
  };
  buttons.forEach((button, place) => button.addEventListener("click", () => show(place)));
  group.prepend(bar);
  show(0);
}
