"""An adapter and the model it gives with theta_0, from headers; entries are computed when read."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.safetensors.header import Tensor
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.lora import names
from magmax_jax.merge_files.lora.config import CONFIG, LoraConfig, read_config
from magmax_jax.merge_files.lora.delta import product, shifted
from magmax_jax.merge_files.lora.names import Contents, Module, Rename

WEIGHT = ".weight"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in peft's format."""

    files: TensorFiles
    config: LoraConfig
    contents: Contents

    @property
    def place(self) -> Path:
        return self.files.place

    def deltas(self) -> dict[str, Tensor]:
        """What it adds to each tensor, by name."""
        return {
            module.name + WEIGHT: product(
                base=None,
                shape=_shape(module, self._transposed(module)),
                module=module,
                transposed=self._transposed(module),
                scale=self.config.scale_of(module.name),
            )
            for module in self.contents.modules.values()
        }

    def alone(self, zeros: TensorFiles) -> TensorFiles:
        """Its changes to a model of zeros, by tensor name.

        Raises:
          UserError: it also changes tensors other than by products B A.
        """
        biases = (f"{m.name}.bias" for m in self.contents.modules.values() if m.bias is not None)
        for name in (*self.contents.whole, *biases):
            raise UserError(
                f"{self.place} changes {name} by other means than B A, which is possible only "
                "beside the model: name that as --pretrained and leave --lora-rank out"
            )
        return self._with(zeros.tensors | self.deltas())

    def applied(self, pretrained: TensorFiles) -> tuple[TensorFiles, Rename]:
        """theta_0 with the adapter applied, and how names in the adapter map to theta_0's.

        Unchanged tensors are theta_0's own.

        Raises:
          UserError: it is not an adapter of this model.
        """
        rename = self._rename(pretrained.tensors)
        modules = self.contents.modules.values()
        targets = {m.name: _target(m, rename, pretrained.tensors) or "" for m in modules}
        self._check_orientation(targets, pretrained.tensors)
        tensors = dict(pretrained.tensors)
        for name, tensor in self.contents.whole.items():
            renamed = rename(name)
            tensors[renamed if renamed in tensors else name] = tensor
        for module in modules:
            name = targets[module.name]
            scale = self.config.scale_of(module.name)
            possible = _orientations(module, tensors[name].shape)
            transposed = possible.pop() if len(possible) == 1 else self.config.transposed
            if module.bias is not None:
                bias = name.removesuffix("weight") + "bias"
                if bias not in tensors or tensors[bias].shape != module.bias.shape:
                    raise UserError(
                        f"{self.place}: theta_0 has no {bias}, to which the bias of lora_B is "
                        "added: this adapter cannot be merged"
                    )
                tensors[bias] = shifted(tensors[bias], module.bias, scale)
            tensors[name] = product(tensors[name], tensors[name].shape, module, transposed, scale)
        return self._with(tensors), rename

    def _with(self, tensors: dict[str, Tensor]) -> TensorFiles:
        return dataclasses.replace(self.files, tensors=tensors)

    def _transposed(self, module: Module) -> bool:
        return module.embedding or (self.config.transposed and len(_matrix(module)) == 2)

    def _rename(self, tensors: Mapping[str, Tensor]) -> Rename:
        """The prefix change, if any, under which every module has a matching tensor."""
        modules = list(self.contents.modules.values())
        same = Rename()
        lost = [m for m in modules if _target(m, same, tensors) is None]
        if not lost:
            return same
        fitting: dict[tuple[str | None, ...], Rename] = {}  # by the resulting targets
        for rename in names.renames(lost[0].name + WEIGHT, tensors):
            targets = tuple(_target(module, rename, tensors) for module in modules)
            if all(targets):
                fitting.setdefault(targets, rename)
        if len(fitting) == 1:
            return next(iter(fitting.values()))
        of = f" (it was trained on {self.config.base})" if self.config.base else ""
        first = lost[0]
        if (name := first.name + WEIGHT) in tensors:
            theirs, ours = list(_matrix(first)), list(tensors[name].shape)
            raise UserError(
                f"{self.place} is not an adapter for this theta_0{of}: it changes {name} by "
                f"{theirs}, theta_0's is {ours}: name its own model as --pretrained"
            )
        raise UserError(
            f"{self.place} is not an adapter for this theta_0{of}: theta_0 lacks {len(lost)} of "
            f"the {len(modules)} modules that it changes, {first.name} first: name its own model "
            "as --pretrained"
        )

    def _check_orientation(self, targets: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
        """Refuses square matrices if others contradict the configuration's fan_in_fan_out."""
        either, contrary = [], False
        for module in self.contents.modules.values():
            possible = _orientations(module, tensors[targets[module.name]].shape)
            if len(possible) == 2:
                either.append(targets[module.name])
            elif not module.embedding and len(_matrix(module)) == 2:
                contrary |= self.config.transposed not in possible
        if either and contrary:
            raise UserError(
                f"{self.place}: {CONFIG} says fan_in_fan_out: {self.config.transposed}, but the "
                f"shapes of other matrices contradict it, so whether {either[0]} is transposed is "
                "not known: "
                "give the adapter's merged model (peft's merge_and_unload)"
            )


def find(files: TensorFiles, exclude: Sequence[str] = ()) -> Adapter | None:
    """The adapter in these files; None for any other checkpoint.

    Args:
      exclude: patterns of names to ignore.

    Raises:
      UserError: they hold an adapter that cannot be read as theta_0 + a scaled B A.
    """
    alone = [path.name for path in files.files] == [hub.ADAPTER]
    found = names.of_adapters(files.tensors, exclude)
    if not found and not alone:
        return None
    config = read_config(files.directory) if len(files.files) == 1 else None
    if config is None or not (alone or len(found) == len(files.tensors)):
        raise UserError(names.why_not_readable(files.place, files, found or [*files.tensors]))
    adapter = Adapter(files, config, names.contents(files))
    for module in adapter.contents.modules.values():
        rank, a, b = config.rank_of(module.name), module.a, module.b
        if a is None or b is None or a.shape[:1] != (rank,) or b.shape[1:2] != (rank,):
            shapes = " and ".join(str(list(t.shape)) for t in (a, b) if t is not None)
            raise UserError(
                f"{files.place}: {module.name} has matrices of shape {shapes}, but its rank is "
                f"{rank} in {CONFIG}: give the configuration that it was saved with"
            )
    return adapter


def _target(module: Module, rename: Rename, tensors: Mapping[str, Tensor]) -> str | None:
    """The name of theta_0's tensor that a module changes, if there is one of matching shape."""
    name = rename(module.name + WEIGHT)
    if name is None or name not in tensors:
        return None
    return name if _orientations(module, tensors[name].shape) else None


def _orientations(module: Module, shape: tuple[int, ...]) -> set[bool]:
    """Whether a tensor of that shape would be transposed; both if it is square."""
    matrix = _matrix(module)
    if module.embedding:
        return {True} if shape == matrix[::-1] else set()
    possible = {False} if shape == matrix else set()
    return possible | ({True} if len(matrix) == 2 and shape == matrix[::-1] else set())


def _matrix(module: Module) -> tuple[int, ...]:
    """The shape of B A: (out, in), or (out, in, height, width) for a convolution."""
    assert module.a is not None and module.b is not None
    return (module.b.shape[0], *module.a.shape[1:])


def _shape(module: Module, transposed: bool) -> tuple[int, ...]:
    matrix = _matrix(module)
    return matrix[::-1] if transposed else matrix
