"""A table of values by name to which anyone can add."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar, overload

from magmax_jax.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """Values by name, in the order of their registration, the bundled ones first.

    Args:
      kind: what the values are, in the singular, for messages: "merge rule".
      modules: the module that defines each bundled value, imported when the value is asked for.

    >>> animals = Registry("animal", {})
    >>> animals.register("ant", 6)
    6
    >>> animals["ant"], list(animals), "bee" in animals
    (6, ['ant'], False)
    """

    def __init__(self, kind: str, modules: Mapping[str, str]):
        self.kind = kind
        self._modules = dict(modules)
        self._values: dict[str, T] = {}

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...
    @overload
    def register(self, name: str, value: T) -> T: ...
    def register(self, name: str, value: T | None = None) -> T | Callable[[T], T]:
        """Adds a value under a new name and returns it; without a value, a decorator that does.

        Raises:
          UserError: the name is taken, or is not one that a command line can hold.
        """
        if value is None:
            return lambda defined: self.register(name, defined)
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"{name!r} cannot name a {self.kind}: use letters, digits, _ and -")
        # A bundled value registers itself while its own module is being imported.
        reserved = name in self._modules and self._modules[name] not in sys.modules
        if name in self._values or reserved:
            raise UserError(f"there is a {self.kind} {name!r} already: choose another name")
        self._values[name] = value
        return value

    def unregister(self, name: str) -> None:
        """Removes a value that was added with `register`; bundled ones stay."""
        if name not in self._modules:
            self._values.pop(name, None)

    def check(self, name: str) -> None:
        """Raises a UserError if there is no such name; imports nothing."""
        if name not in self:
            raise UserError(f"{name!r} is no {self.kind}: choose from {', '.join(self)}")

    def __getitem__(self, name: str) -> T:
        """The value of that name.

        Raises:
          UserError: there is none.
        """
        self.check(name)
        if name not in self._values:
            importlib.import_module(self._modules[name])
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules or name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter({**self._modules, **self._values})

    def __len__(self) -> int:
        return len({**self._modules, **self._values})

    def items(self) -> Iterator[tuple[str, T]]:
        """Names with their values, every one of which is imported."""
        return ((name, self[name]) for name in self)

    def values(self) -> Iterator[T]:
        """Every value, imported."""
        return (self[name] for name in self)
