"""A model small enough to be trained in a test: it reads and writes letters."""

from __future__ import annotations

from pathlib import Path


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write a small Llama of random fp32 weights into `folder`, and return the folder; equal seeds give equal weights."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = ["<pad>", "<end>", "<user>", "<reply>", *(chr(code) for code in range(32, 127)), "\n"]
    words = Tokenizer(models.WordLevel({letter: place for place, letter in enumerate(letters)}, unk_token=" "))
    words.pre_tokenizer = pre_tokenizers.Split(Regex("<user>|<reply>|<end>|.|\n"), "isolated")
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token=" ")
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message.role == 'assistant' %}<reply>{% else %}<user>{% endif %}"
        "{{ message.content }}{% endfor %}{% if add_generation_prompt %}<reply>{% endif %}"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=1,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
