"""fusion_bench's MagMax on files, through its public classes.

The pool gives it models by transformers' `from_pretrained`, one at a time. Its `LazyStateDict`,
which opens a file anew for every tensor, was slower here.
"""

from fusion_bench.method import MagMaxAlgorithm
from fusion_bench.modelpool import BaseModelPool

from benchmarks.peers.arguments import parse


def main() -> None:
    arguments = parse({"max_magnitude": 0.5})
    sources = {f"task_{t}": path for t, path in enumerate(arguments.finetuned, start=1)}
    pool = BaseModelPool(
        {
            name: {
                "_target_": "transformers.CLIPModel.from_pretrained",
                "pretrained_model_name_or_path": str(path),
            }
            for name, path in {"_pretrained_": arguments.pretrained, **sources}.items()
        }
    )
    model = MagMaxAlgorithm(scaling_factor=arguments.scale).run(pool)
    model.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
