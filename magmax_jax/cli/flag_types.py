"""Types of flags that tyro checks by itself.

To check a default against `X | None` or a generic type, tyro 1.0 imports typeguard, which takes a
quarter of the time that `magmax merge` takes to start.
"""

import types
import typing
from typing import Annotated, Any, TypeVar, Union

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

Kind = TypeVar("Kind", bound=type)

REGISTRY = ConstructorRegistry()
"""What `tyro.cli` needs to parse `Several`."""


class Groups(tuple[tuple[str, ...], ...]):
    """The values of a flag, one tuple for each time that it is given."""


NOT_GIVEN = Groups()

Several = Annotated[Groups, tyro.conf.UseAppendAction]
"""Values after one flag, which may be repeated for more of them."""


@REGISTRY.primitive_rule
def _groups(
    info: PrimitiveTypeInfo,
) -> PrimitiveConstructorSpec | UnsupportedTypeAnnotationError | None:
    if info.type is not Groups:
        return None
    plain = PrimitiveTypeInfo.make(tuple[tuple[str, ...], ...], info.markers)
    return ConstructorRegistry.get_primitive_spec(plain)


def checked_by_tyro(kind: Kind) -> Kind:
    """Decorates a dataclass of flags: tyro sees `Optional[X]` for every `X | None`."""
    kind.__annotations__ = {name: _checked(hint) for name, hint in kind.__annotations__.items()}
    return kind


def _checked(hint: Any) -> Any:
    if typing.get_origin(hint) is Annotated:
        return Annotated[(_checked(hint.__origin__), *hint.__metadata__)]
    return Union[typing.get_args(hint)] if isinstance(hint, types.UnionType) else hint  # noqa: UP007
