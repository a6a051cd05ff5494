"""Clients of all study points on one axis, and the randomness that belongs to each."""

from fedjax_kd.clients.groups import Groups as Groups
from fedjax_kd.clients.groups import every_group as every_group
from fedjax_kd.clients.groups import groups_by_turns as groups_by_turns
from fedjax_kd.clients.groups import whole_axis as whole_axis
from fedjax_kd.clients.participation import draw_roles as draw_roles
from fedjax_kd.clients.participation import drop_out as drop_out
from fedjax_kd.clients.participation import put_rows as put_rows
from fedjax_kd.clients.participation import sample_cohort as sample_cohort
from fedjax_kd.clients.participation import select as select
from fedjax_kd.clients.participation import take_rows as take_rows
from fedjax_kd.clients.population import Population as Population
from fedjax_kd.clients.population import branch as branch
from fedjax_kd.clients.population import client_keys as client_keys
from fedjax_kd.clients.population import keep_first as keep_first
from fedjax_kd.clients.population import per_client as per_client
from fedjax_kd.clients.population import per_point as per_point
from fedjax_kd.clients.population import pooled as pooled
from fedjax_kd.clients.population import population as population
from fedjax_kd.clients.population import stack_tables as stack_tables
from fedjax_kd.clients.public import draw_public as draw_public
from fedjax_kd.clients.public import draw_public_places as draw_public_places
from fedjax_kd.clients.randomness import Part as Part
from fedjax_kd.clients.randomness import Purpose as Purpose
from fedjax_kd.clients.randomness import client_key as client_key
from fedjax_kd.clients.randomness import draw_key as draw_key
from fedjax_kd.clients.randomness import part_key as part_key
