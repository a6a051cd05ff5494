"""Local training and evaluation of one client, and how a whole stack of clients is run."""

from fedjax_kd.training.client_loop import run_and_sum as run_and_sum
from fedjax_kd.training.client_loop import run_clients as run_clients
from fedjax_kd.training.client_loop import sum_over_clients as sum_over_clients
from fedjax_kd.training.evaluation import accuracy as accuracy
from fedjax_kd.training.evaluation import accuracy_of_clients as accuracy_of_clients
from fedjax_kd.training.evaluation import logits_of_rows as logits_of_rows
from fedjax_kd.training.execution import Execution as Execution
from fedjax_kd.training.execution import default_execution as default_execution
from fedjax_kd.training.execution import everywhere as everywhere
from fedjax_kd.training.execution import for_points as for_points
from fedjax_kd.training.execution import on_host as on_host
from fedjax_kd.training.execution import settled as settled
from fedjax_kd.training.local_update import Batch as Batch
from fedjax_kd.training.local_update import epoch_order as epoch_order
from fedjax_kd.training.local_update import local_steps as local_steps
from fedjax_kd.training.local_update import local_update as local_update
from fedjax_kd.training.optimiser import Rates as Rates
from fedjax_kd.training.optimiser import rates as rates
from fedjax_kd.training.optimiser import sgd as sgd
from fedjax_kd.training.padding import executed_examples as executed_examples
from fedjax_kd.training.schedule import Drop as Drop
