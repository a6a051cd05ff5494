"""Local training and evaluation of one client, and how a whole stack of clients is run."""

from fedjax_kd.training.client_loop import Execution as Execution
from fedjax_kd.training.client_loop import default_execution as default_execution
from fedjax_kd.training.client_loop import everywhere as everywhere
from fedjax_kd.training.client_loop import run_clients as run_clients
from fedjax_kd.training.client_loop import settled as settled
from fedjax_kd.training.client_loop import sum_over_clients as sum_over_clients
from fedjax_kd.training.evaluation import accuracy as accuracy
from fedjax_kd.training.evaluation import accuracy_of_clients as accuracy_of_clients
from fedjax_kd.training.evaluation import logits_of_rows as logits_of_rows
from fedjax_kd.training.local_update import Rates as Rates
from fedjax_kd.training.local_update import epoch_order as epoch_order
from fedjax_kd.training.local_update import local_update as local_update
from fedjax_kd.training.local_update import rates as rates
from fedjax_kd.training.local_update import sgd as sgd
