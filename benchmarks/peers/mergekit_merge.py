"""mergekit on files: its command `mergekit-pytorch`, called with a configuration made here."""

import json

from mergekit.scripts.merge_raw_pytorch import main as mergekit_pytorch

from benchmarks.peers.arguments import WEIGHTS, parse


def main() -> None:
    arguments = parse({"average": 1.0, "ties": 0.55})
    models = [{"model": str(path / WEIGHTS)} for path in arguments.finetuned]
    config = {"models": models, "dtype": "float32", "parameters": {"weight": 1.0}}
    if arguments.rule == "average":
        config |= {"merge_method": "linear"}
    else:
        config |= {
            "merge_method": "ties",
            "base_model": str(arguments.pretrained / WEIGHTS),
            "parameters": {"weight": 1.0, "density": 0.2, "lambda": arguments.scale},
        }
    path = arguments.output.with_suffix(".yaml")
    path.write_text(json.dumps(config))  # JSON is YAML
    mergekit_pytorch([str(path), str(arguments.output)])


if __name__ == "__main__":
    main()
