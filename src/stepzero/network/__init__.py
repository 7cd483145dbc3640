"""Network: a model as data. Capture runs it on meta; replay proves the record on real tensors."""

from ._calm import random_state_kept as random_state_kept
from ._capture import capture as capture
from ._checks import require_parameters as require_parameters
from ._graph import Graph as Graph
from ._graph import Node as Node
from ._graph import Ref as Ref
from ._graph import Value as Value
from ._inputs import ModelInputs as ModelInputs
from ._inputs import TensorSpec as TensorSpec
from ._inputs import parse_spec as parse_spec
from ._inputs import real_inputs as real_inputs
from ._load import load_model as load_model
from ._names import Slot as Slot
from ._names import buffer_slots as buffer_slots
from ._names import canonical_name as canonical_name
from ._names import parameter_slots as parameter_slots
from ._origin import Origin as Origin
from ._origin import Part as Part
from ._origin import Recording as Recording
from ._record import build as build
from ._record import recording as recording
from ._replay import leaves as leaves
from ._replay import replay as replay
from ._torchvision import import_torchvision as import_torchvision
from ._walk import tensors_in as tensors_in
