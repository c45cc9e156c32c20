"""Checks that pytrees belong to the same model and are finite; errors name the offending leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from magmax_jax.errors import UserError, capped, counted
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.arrays import PyTree, arrays, is_array, is_merged, is_wide, native
from magmax_jax.packages.lazy_jax import jax, jnp

SHOWN = 20
"""Leaves named in a message before "and N more"."""


def conform(tree: PyTree, reference: PyTree, dtypes: bool = True) -> PyTree:
    """The arrays of `tree` in the structure of `arrays(reference)`.

    Arrays are matched by their paths. Other leaves and the static fields of containers may differ.

    Args:
      tree: a pytree with the same container types as `reference`.
      dtypes: whether dtypes must also be equal, compared as without `jax_enable_x64`.

    Raises:
      UserError: arrays are missing, unexpected, of a different shape or dtype, in containers of a
        different type, complex, or from a library other than JAX and NumPy; the first 20 are named.
    """
    ours, treedef = jax.tree.flatten(tree)
    theirs, expected = jax.tree.flatten(reference)
    alike = len(ours) == len(theirs) and all(
        not (_unfit(a) or _unfit(b) or _problem(a, b, dtypes))
        for a, b in zip(ours, theirs, strict=True)
    )
    if alike and same_structure(treedef, expected):
        return arrays(tree)
    found, wanted = _by_path(tree), _by_path(reference)
    unfit = [
        f"{path} {said}"
        for path, leaf in [*wanted.items(), *found.items()]
        if (said := _unfit(leaf))
    ]
    if unfit:
        raise UserError("not all leaves can be merged:" + _listed(list(dict.fromkeys(unfit))))
    problems = [
        f"missing {path} {np.shape(leaf)}" for path, leaf in wanted.items() if path not in found
    ]
    problems += [
        f"unexpected {path} {np.shape(leaf)}" for path, leaf in found.items() if path not in wanted
    ]
    both = [(path, found[path], leaf) for path, leaf in wanted.items() if path in found]
    problems += [f"{path} {said}" for path, a, b in both if (said := _problem(a, b, dtypes))]
    if problems:
        raise UserError(
            "the two pytrees are not those of one model "
            f"({counted(len(problems), 'leaf differs', 'leaves differ')}):" + _listed(problems)
        )
    types, of_reference = dict(_containers(tree)), dict(_containers(reference))
    others = [
        f"{path or 'the whole'} is a {types[path].__name__}, not a {kind.__name__}"
        for path, kind in of_reference.items()
        if types.get(path, kind) is not kind
    ]
    if others:
        raise UserError("the two pytrees differ in their containers:" + _listed(others))
    structure: Any = jax.tree.structure(arrays(reference))  # JAX ships no stubs of PyTreeDef
    return structure.unflatten(jax.tree.leaves(arrays([found[path] for path in wanted])))


def check_alike(tree: PyTree, reference: PyTree, dtypes: bool = True) -> None:
    """Raises a UserError that names the leaves in which `tree` differs from `reference`.

    See `conform` for what must be equal.
    """
    conform(tree, reference, dtypes)


def check_finite(tree: PyTree) -> None:
    """Raises a UserError that names the floating-point leaves with a NaN or an infinity in them.

    Traced leaves have no values yet and are not checked.
    """
    leaves = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays(tree))
        if is_merged(leaf) and not isinstance(leaf, jax.core.Tracer)
    }
    with jax.ensure_compile_time_eval():  # also while tracing a caller's function
        finite = {
            path: np.isfinite(leaf).all() if is_wide(leaf) else _all_finite(leaf)
            for path, leaf in leaves.items()
        }
    if problems := [path for path, good in finite.items() if not good]:
        holding = counted(len(problems), "leaf holds", "leaves hold")
        raise UserError(f"{holding} NaN or infinity:" + _listed(problems))


def same_structure(a: Any, b: Any) -> bool:
    """Whether two `PyTreeDef`s are equal; False where static fields cannot be compared."""
    try:
        return bool(a == b)
    except Exception:  # any __eq__ may raise, e.g. NumPy's on an ambiguous truth value
        return False


@partial(jit_on_any_mesh, like=None)
def _all_finite(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()


def _by_path(tree: PyTree) -> dict[str, Any]:
    """All arrays by path, including other libraries'; repeated paths are numbered."""
    found: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if is_array(leaf) or _is_foreign(leaf):
            path = jax.tree_util.keystr(keys)
            found[path if path not in found else f"{path} ({len(found)})"] = leaf
    return found


def _containers(tree: PyTree) -> Iterator[tuple[str, type]]:
    """Path and type of every container of arrays."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arrays(tree))]

    def walk(node: Any, depth: int, first: int) -> Iterator[tuple[str, type]]:
        if not node.num_leaves or node.node_data() is None:
            return
        yield jax.tree_util.keystr(paths[first][:depth]), node.node_data()[0]
        for child in node.children():
            yield from walk(child, depth + 1, first)
            first += child.num_leaves

    yield from walk(jax.tree.structure(arrays(tree)), 0, 0)


def _unfit(leaf: Any) -> str:
    """Why a leaf can be neither merged nor passed through; "" if it can."""
    if _is_foreign(leaf):
        kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}"
        return f"is a {kind}: convert it to a NumPy or JAX array"
    if is_array(leaf) and _dtype(leaf).startswith("complex"):
        return f"is {_dtype(leaf)}: merge its real and imaginary parts as two arrays"
    return ""


def _problem(leaf: Any, reference: Any, dtypes: bool) -> str:
    """How a leaf differs from the reference leaf at its path; "" if it does not."""
    if not (is_array(leaf) and is_array(reference)):
        same = is_array(leaf) == is_array(reference)
        return "" if same else f"is of type {type(leaf).__name__}"
    if jnp.shape(leaf) != jnp.shape(reference):
        return f"has shape {jnp.shape(leaf)}, not {jnp.shape(reference)}"
    ours, theirs = _dtype(leaf), _dtype(reference)
    return f"has dtype {ours}, not {theirs}" if dtypes and ours != theirs else ""


def _dtype(leaf: Any) -> str:
    """JAX's name for the dtype, or NumPy's if JAX has no such dtype (longdouble)."""
    if isinstance(leaf, np.ndarray) and not leaf.dtype.isnative:
        leaf = native(np.empty(0, leaf.dtype))
    try:
        return str(jnp.result_type(leaf).name)
    except TypeError:
        return str(leaf.dtype.name)


def _is_foreign(leaf: Any) -> bool:
    """Whether a leaf is another library's array, which must not be skipped silently."""
    numpys = isinstance(leaf, np.ndarray | np.generic)
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not (numpys or is_array(leaf))


def _listed(problems: Sequence[str]) -> str:
    return "".join(f"\n  {line}" for line in capped(problems, SHOWN + 1))
