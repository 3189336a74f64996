"""Writes a folder that passes for a model: a real tokenizer, and a configuration of no weights.

Run by the Python of Dynamo's environment. The vocabulary is large because the mocker answers with
random tokens: of a small one, most are parts of characters, which no front end sends on.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from tokenizers import (  # type: ignore[import-not-found]
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)

VOCABULARY, WORDS, LONGEST = 40_000, 60_000, 32_768
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def main(folder: Path) -> None:
    """Write tokenizer and configuration."""
    draw = random.Random(1)
    syllables = [first + last for first in "bcdfghjklmnprstvwz" for last in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(2, 5))) for _ in range(WORDS)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (" ".join(words[at : at + 20]) for at in range(0, WORDS, 20)), trainer
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LONGEST,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "torch_dtype": "bfloat16",
        **ends,
    }
    tokens = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": LONGEST,
        "chat_template": TEMPLATE,
    }
    for name, content in (
        ("config.json", config),
        ("generation_config.json", ends),
        ("tokenizer_config.json", tokens),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
