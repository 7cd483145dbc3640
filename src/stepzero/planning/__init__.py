"""A law for each parameter, and why."""

from ._entry import Entry as Entry
from ._goals import GOALS as GOALS
from ._goals import Goal as Goal
from ._plan import FORMAT as FORMAT
from ._plan import Plan as Plan
from ._planner import initialize_ as initialize_
from ._planner import plan as plan
from ._policies import POLICIES as POLICIES
from ._policies import RESIDUAL as RESIDUAL
from ._policies import Policy as Policy
from ._said import Said as Said
from ._scene import Scene as Scene
