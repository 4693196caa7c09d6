"""A net of a user's, a class of torch's `nn.Module`, as a learner.

    class Net(nn.Module):
        def __init__(self, channels: int, classes: int, dropout: float = 0.1) -> None: ...
        def forward(self, x): ...   # (n, channels, height, width) of 0 to 1 -> (n, classes)

It is made with those of `channels`, `height`, `width`, `columns` and `classes` that its `__init__`
names, as the data has them, and with what `--set` gives of the others.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, make_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from protocol.options import declared, flat, option

from ..errors import UnfitData, UnknownLearner
from ..forms import Table, taken
from ..neural.options import PresetOptions
from ..neural.presets import FIRST, Recipe, recipe_of
from ..neural.trained import TrainedNet

if TYPE_CHECKING:
    from loaders.rows import Arrays, Form

    from .training import Module, OwnTraining

#: What the data says, by the name of a parameter.
_OF_DATA = ("channels", "height", "width", "columns", "classes")
#: The highest learning rate unless somebody says: nets without normalisation bear no more.
_RATE = 0.05
SCHEDULES = ("OneCycleLR", "CosineAnnealingLR", "LinearLR", "ConstantLR")


@dataclass(frozen=True, kw_only=True)
class OwnNetOptions(PresetOptions):
    """How a net of a user's is trained."""

    optimizer: str = option(
        "SGD", "a net of your own: torch.optim's name of it; SGD has Nesterov momentum 0.9.",
        set=True,
    )  # fmt: skip
    weight_decay: float = option(
        5e-4, "a net of your own: of the optimizer; by SGD only matrices decay.", least=0, most=1e6,
        set=True,
    )  # fmt: skip
    loss: str = option(
        "CrossEntropyLoss", "a net of your own: torch.nn's name of what it makes small.", set=True
    )
    schedule: str = option(
        "OneCycleLR",
        "a net of your own: torch.optim.lr_scheduler's name of how the learning rate goes, over"
        " the whole run: OneCycleLR rises in a line for a fifth of it and then falls to zero.",
        choices=SCHEDULES, set=True,
    )  # fmt: skip


class OwnNet(TrainedNet):
    """Trains a net of a user's as the neural learner trains its own.

    Its input is float32, (n, channels, height, width), 0 to 1 for pictures of bytes, else in
    deviations from the mean over the training set, as are tables, (n, columns); it returns
    (n, classes).
    """

    options = OwnNetOptions
    made: OwnNetOptions
    #: The class, and the names of its parameters: those that `--set` gives, those of them that it
    #: must, and those that the data gives.
    net: ClassVar[Callable[..., Module]]
    own: ClassVar[tuple[str, ...]] = ()
    required: ClassVar[frozenset[str]] = frozenset()
    of_data: ClassVar[tuple[str, ...]] = ()

    @property
    def _training(self) -> OwnTraining:
        from .training import OwnTraining

        return OwnTraining(self.made, self.turn, self.module_for)

    def module_for(self, form: Form) -> Module:
        """Return a net as its class makes it, for data of such a form.

        Raises:
            UnfitData: it wants to know what such data has not.
            UnknownLearner: a parameter without a default is not given.
        """
        given = self.shaping()
        missing = [name for name in sorted(self.required) if given[name] is None]
        if missing:
            raise UnknownLearner(
                f"{self.name} wants {missing[0]}: --set {missing[0]}=VALUE, or give it a default"
            )
        return self.net(**self._of(form), **given)

    def _of(self, form: Form) -> dict[str, int]:
        """Return what the data says of itself, as far as the net asks."""
        found = taken(form, self.name)
        if isinstance(found, Table):
            there = {"columns": len(found.columns)}
        else:
            there = {"channels": found.channels, "height": found.height, "width": found.width}
        there["classes"] = len(form.classes)
        odd = [name for name in self.of_data if name not in there]
        if odd:
            raise UnfitData(f"{self.name} asks for {odd[0]}, which rows of {form.tell()} have not")
        return {name: there[name] for name in self.of_data}

    def initial(self, form: Form) -> Arrays:
        """Return a fresh net's weights; where numbers are standardised, as if they were already."""
        return self._training.initial(form, self._recipe(form, 1, 1, None))

    # At the main node.

    def shaping(self) -> Mapping[str, object]:
        """Return the parameters of the net's class that `--set` gives."""
        return {name: value for name, value in flat(self.made).items() if name in self.own}

    def check_form(self, form: Form) -> None:
        """Raise unless rows are pictures or a table, and the net can be made for them."""
        from .training import loss_of, optimizer_of

        self._of(form)
        loss_of(self.made)
        optimizer_of(self.made)

    def _recipe(self, form: Form, rows: int, shards: int, rounds: int | None) -> Recipe:
        if self.made.preset == FIRST:
            raise UnknownLearner("--preset first is the net of the first release; not a net's here")
        return recipe_of(self.made, form, rows, shards, rounds)

    def suited(
        self, form: Form, rows: int, shards: int, rounds: int | None
    ) -> tuple[OwnNetOptions, int]:
        """Return what it is made with, whole, and how many rounds there are: the preset's."""
        found = self._recipe(form, rows, shards, rounds)
        own: dict[str, Any] = {
            "epochs": found.said_epochs, "batch_size": found.batch_size,
            "lr": rate_of(self.made),
        }  # fmt: skip
        if not isinstance(taken(form, self.name), Table):
            own |= {"shift": found.shift, "flip": found.flip}
        return replace(self.made, **own), found.rounds


def rate_of(made: OwnNetOptions) -> float:
    """Return the highest learning rate."""
    return _RATE if made.lr is None else made.lr


def learner_of(net: type, called: str) -> type[OwnNet]:
    """Return the learner that trains a class of nets.

    Args:
        net: a subclass of `nn.Module`.
        called: how it is named, for messages.

    Raises:
        UnknownLearner: it has a parameter that nobody can give.
    """
    names = list(_asked(net, called))
    given = [_option(name, parameter, kind, called) for name, parameter, kind in names
             if name not in _OF_DATA]  # fmt: skip
    options = make_dataclass(
        f"{net.__name__}Options", [each for each in given if each is not None],
        bases=(OwnNetOptions,), frozen=True, kw_only=True,
    )  # fmt: skip
    own = [each[0] for each in given if each is not None]
    return type(
        net.__name__, (OwnNet,),
        {
            "options": options, "net": net, "__doc__": net.__doc__, "own": tuple(own),
            "required": frozenset(
                name for name, parameter, _ in names
                if name in own and parameter.default is parameter.empty
            ),
            "of_data": tuple(name for name, *_ in names if name in _OF_DATA),
        },
    )  # fmt: skip


def _asked(net: type, called: str) -> Iterator[tuple[str, inspect.Parameter, Any]]:
    """Yield what a net's `__init__` asks for: name, parameter, and its type as it is annotated."""
    hints = _hints(inspect.getattr_static(net, "__init__"))
    for name, parameter in inspect.signature(net).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise UnknownLearner(f"{called}: its {name} can't be given by name")
        yield name, parameter, hints.get(name)


def _hints(function: Any) -> dict[str, Any]:
    """Return the types that parameters are annotated with, as far as their names are there."""
    found: dict[str, Any] = {}
    for name, told in getattr(function, "__annotations__", {}).items():
        with suppress(Exception):  # one that is imported for type checkers only, say
            alone = types.SimpleNamespace(__annotations__={name: told})
            space = getattr(inspect.unwrap(function), "__globals__", {})
            found |= typing.get_type_hints(alone, space)
    return found


def _option(
    name: str, parameter: inspect.Parameter, kind: Any, called: str
) -> tuple[str, Any, Any] | None:
    """Return a parameter as the field of an option; None: it keeps its default, whatever that is.

    Raises:
        UnknownLearner: it has none, and is nothing that a command line can give; or its name is
            taken.
    """
    required = parameter.default is parameter.empty
    if name in {each.name for each in declared(OwnNetOptions)}:
        if required:
            raise UnknownLearner(
                f"{called}: its {name} has the name of an option of the training; call it otherwise"
            )
        return None
    found = _plain(kind) or (None if required else type(parameter.default))
    default = None if required else parameter.default
    if found is float and type(default) is int:  # as people write 0 for 0.0
        default = float(default)
    if found not in (int, float, str, bool) or not isinstance(default, found | None):
        if required:
            raise UnknownLearner(
                f"{called}: its {name} has neither a default nor a type that --set can give"
                " (int, float, str or bool)"
            )
        return None
    told = f"{called}: of its __init__."
    return name, found | None, option(default, told, set=True, may_be_empty=True)


def _plain(kind: Any) -> Any:
    """Return the type that is annotated, of one that may be None the type."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = [each for each in typing.get_args(kind) if each is not type(None)]
        return kinds[0] if len(kinds) == 1 else None
    return kind
