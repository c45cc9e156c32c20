"""An extensible table of values by name."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, overload

from magmax_jax.errors import UserError
from magmax_jax.registry.imported import import_value, is_path

T = TypeVar("T")


class Registry(Generic[T]):
    """Values by name, in order of registration, bundled ones first.

    Args:
      kind: what the values are, in the singular, for messages: "merge rule".
      modules: the module that defines each bundled value, imported on first access.
      imports: whether a user's own value can be named as `module:attribute`, without registration.
        Only for values that users name themselves: looking one up runs its module.

    >>> animals = Registry("animal", {})
    >>> animals.register("ant", 6)
    6
    >>> animals["ant"], list(animals), "bee" in animals
    (6, ['ant'], False)
    """

    def __init__(self, kind: str, modules: Mapping[str, str], imports: bool = False):
        self.kind = kind
        self._imports = imports
        self._modules = dict(modules)
        self._values: dict[str, T] = {}

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...
    @overload
    def register(self, name: str, value: T) -> T: ...
    def register(self, name: str, value: T | None = None) -> T | Callable[[T], T]:
        """Adds a value under a new name and returns it; without a value, returns a decorator.

        A function that is defined again (its module is reloaded, is also the main program, or its
        notebook cell runs again) replaces itself.

        Raises:
          UserError: the name is taken, or is not valid on a command line.
        """
        if value is None:
            return lambda defined: self.register(name, defined)
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(
                f"{name!r} is not a valid name for a {self.kind}: use letters, digits, _ and -"
            )
        # A bundled value registers itself while its own module is being imported.
        reserved = name in self._modules and self._modules[name] not in sys.modules
        taken = name in self._values and not _is_again(self._values[name], value)
        if taken or reserved:
            raise UserError(f"there is already a {self.kind} {name!r}: choose another name")
        self._values[name] = value
        return value

    def replace(self, name: str, value: T) -> T:
        """Replaces a registered value, bundled ones included, and returns the previous value.

        Raises:
          UserError: there is no such value.
        """
        before = self[name]
        self._values[name] = value
        return before

    def unregister(self, name: str) -> None:
        """Removes a value that was added with `register`; bundled ones stay."""
        if name not in self._modules:
            self._values.pop(name, None)

    def names_code(self, name: str) -> bool:
        """Whether a name is a `module:attribute` that names a value here; imports nothing."""
        return self._imports and is_path(name)

    def check(self, name: str) -> None:
        """Raises a UserError if no value can have that name; imports nothing."""
        if name not in self and not self.names_code(name):
            own = ", or module:function for one of your own" if self._imports else ""
            raise UserError(f"{name!r} is not a {self.kind}: choose from {', '.join(self)}{own}")

    def __getitem__(self, name: str) -> T:
        """The value of that name.

        Raises:
          UserError: there is no such value.
        """
        self.check(name)
        if self.names_code(name):
            return import_value(name)
        if name not in self._values:
            importlib.import_module(self._modules[name])
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        """Whether the name is bundled or registered; `module:attribute` is neither."""
        return name in self._modules or name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter({**self._modules, **self._values})

    def __len__(self) -> int:
        return len({**self._modules, **self._values})

    def items(self) -> Iterator[tuple[str, T]]:
        """Names with their values; imports all of them."""
        return ((name, self[name]) for name in self)

    def values(self) -> Iterator[T]:
        """Every value, imported."""
        return (self[name] for name in self)


def _is_again(before: Any, value: Any) -> bool:
    """Whether both are the same function of one module or file, the second defined later."""
    names = [getattr(function, "__qualname__", "") for function in (before, value)]
    if names[0] != names[1] or not names[0].isidentifier():  # a lambda's name identifies nothing
        return False
    homes = [function.__module__ for function in (before, value)]
    files = [getattr(sys.modules.get(home), "__file__", None) for home in homes]
    return homes[0] == homes[1] or (files[0] == files[1] and files[0] is not None)
