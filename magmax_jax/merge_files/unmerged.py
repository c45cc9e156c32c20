"""Complex tensors, which no rule merges: kept from theta_0, provided all models agree."""

from collections.abc import Iterator, Sequence

from magmax_jax.io.safetensors.header import name_of
from magmax_jax.io.safetensors.reader import Reader, TensorFiles


def complex_problems(
    pretrained: TensorFiles, models: Sequence[TensorFiles], others: Sequence[str]
) -> Iterator[str]:
    """A problem for every model whose complex tensors differ from theta_0's; reads only those.

    Args:
      others: names of theta_0's tensors that would be merged if their dtype allowed it.
    """
    names = [name for name in others if pretrained.tensors[name].dtype.kind == "c"]
    with Reader() as reader:
        for model in models:
            for name in names:
                ours, theirs = pretrained.tensors[name], model.tensors.get(name)
                if theirs is not None and not reader.same_bits(ours, theirs):
                    yield (
                        f"{model.place}: {name} is {name_of(ours.dtype)}, which is not merged, and "
                        f"differs from theta_0's: keep theta_0's with --exclude {name}"
                    )
                    break
