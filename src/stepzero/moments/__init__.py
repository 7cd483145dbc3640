"""How signals travel: the moments of every activation and gradient, before a weight is drawn."""

from stepzero.moments._call import Call as Call
from stepzero.moments._call import Load as Load
from stepzero.moments._call import Rule as Rule
from stepzero.moments._call import Weights as Weights
from stepzero.moments._flow import Flow as Flow
from stepzero.moments._leaves import kept_moments as kept_moments
from stepzero.moments._pointwise import Pointwise as Pointwise
from stepzero.moments._propagate import OnUnknown as OnUnknown
from stepzero.moments._propagate import is_weight_op as is_weight_op
from stepzero.moments._propagate import propagate as propagate
from stepzero.moments._roles import count as count
from stepzero.moments._signal import Knob as Knob
from stepzero.moments._signal import Moments as Moments
from stepzero.moments._signal import Signal as Signal
from stepzero.moments._sites import centred as centred
from stepzero.moments._sites import expected_mean_part as expected_mean_part
from stepzero.moments._sites import expected_output as expected_output
from stepzero.moments._sites import weight_name as weight_name
from stepzero.moments._sites import weight_sites as weight_sites
from stepzero.moments._sites import weights_of_one_output as weights_of_one_output
from stepzero.moments._table import MOVES as MOVES
from stepzero.moments._table import RULES as RULES
from stepzero.moments._weights import OPERATORS as OPERATORS
from stepzero.moments._weights import input_argument as input_argument
from stepzero.moments._weights import weight_argument as weight_argument
