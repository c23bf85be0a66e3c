"""Adapters on the model in this process: each answers as peft has it, none leaves a trace on the others or on training."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
peft = pytest.importorskip("peft", reason="needs the extra 'local'")

from lmprog.compiler.plan import AdapterReference  # noqa: E402
from lmprog.lms.local.lora import FastLora  # noqa: E402
from lmprog.lms.local.weights import Weights  # noqa: E402


@pytest.fixture
def weights(tmp_path) -> Weights:
    """A small Llama of random weights in fp32, with the files of two adapters, `a` and `b`, beside it."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, eos_token_id=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({str(n): n for n in range(64)}, unk_token="0")), eos_token="1"
    ).save_pretrained(tmp_path / "model")
    for name, rank in (("a", 4), ("b", 8)):
        model = LlamaForCausalLM.from_pretrained(tmp_path / "model")
        made = peft.get_peft_model(model, lora(rank))
        randomize(made)
        made.save_pretrained(tmp_path / name)
    return Weights(f"hf/{tmp_path / 'model'}", dtype=torch.float32)


def lora(rank: int, **more):
    return peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM", **more)


def randomize(model) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=torch.tensor([[5, 9, 33, 2, 60]])).logits


def stock(folder, name: str) -> torch.Tensor:
    from transformers import LlamaForCausalLM

    return logits(
        peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder / "model"), folder / name).eval()
    )


def test_each_adapter_answers_as_peft_has_it_however_they_are_switched(weights: Weights, tmp_path) -> None:
    base = logits(weights.model)
    wanted = {name: stock(tmp_path, name) for name in "ab"}
    assert (wanted["a"] - wanted["b"]).abs().max() > 0.1 and (wanted["a"] - base).abs().max() > 0.1
    for name in ("a", "b", None, "b", "a", None):
        adapter = None if name is None else AdapterReference(tmp_path / name)
        with weights.using(adapter):
            found = logits(weights.model)
        assert torch.allclose(found, base if name is None else wanted[name], atol=1e-5), name


def test_the_adapter_in_training_answers_with_the_values_of_its_last_step(weights: Weights, tmp_path) -> None:
    trained = weights.begin_training(lora(4))
    model, _ = weights.in_peft(trained)
    model.train()
    for _ in range(2):
        randomize(model)
        weights.trained_step()
        with weights.using(trained):
            found = logits(weights.model)
        model.eval()
        assert torch.allclose(found, logits(model), atol=1e-5)
        model.train()
    with weights.using(AdapterReference(tmp_path / "a")):
        found = logits(weights.model)
    assert torch.allclose(found, stock(tmp_path, "a"), atol=1e-5)
    weights.end_training()
    with weights.using(None):
        assert torch.allclose(logits(weights.model), logits(weights.base), atol=1e-5)


def test_training_is_left_as_it_was(weights: Weights, tmp_path) -> None:
    trained = weights.begin_training(lora(4))
    model, _ = weights.in_peft(trained)
    model.train()
    before = weights.version
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for adapter in (trained, AdapterReference(tmp_path / "a"), None):
        with pytest.raises(KeyError), weights.using(adapter):
            raise KeyError
    assert model.training and weights.version == before
    assert trainable == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("forward" in vars(part) for part in model.modules())


def test_peft_answers_for_what_is_no_plain_lora(weights: Weights) -> None:
    trained = weights.begin_training(lora(4, use_dora=True))
    model, name = weights.in_peft(trained)
    randomize(model)
    weights.trained_step()
    assert not FastLora(model).serves(name)
    with weights.using(trained):
        found = logits(weights.model)
    model.eval()
    assert torch.allclose(found, logits(model), atol=1e-5)


def learnt(model, name: str, fast: FastLora | None) -> dict[str, torch.Tensor]:
    """The logits of a batch and the gradients of a loss on them, by the name of the parameter."""
    model.zero_grad()
    with nullcontext() if fast is None else fast.learning(name):
        out = model(input_ids=torch.tensor([[5, 9, 33, 2, 60], [7, 7, 1, 40, 3]])).logits
    torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), torch.arange(8)).backward()
    found = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    return {"logits": out.detach(), **found}


def test_an_adapter_learns_what_it_learns_in_peft(weights: Weights) -> None:
    model, name = weights.in_peft(weights.begin_training(lora(4)))
    randomize(model)
    model.train()
    fast = FastLora(model)
    assert fast.learns(name)
    wanted, found = learnt(model, name, None), learnt(model, name, fast)
    assert wanted.keys() == found.keys() and len(wanted) > 2 * 7 * 2
    for key, value in wanted.items():
        assert value.dtype == torch.float32 and value.abs().max() > 0, key
        assert torch.allclose(found[key], value, rtol=1e-4, atol=1e-6 * value.abs().max()), key
    assert not any("forward" in vars(part) for part in model.modules())


def test_in_bfloat16_its_gradients_are_as_near_to_those_of_fp32_as_pefts(weights: Weights) -> None:
    model, name = weights.in_peft(weights.begin_training(lora(4)))
    randomize(model)
    fast = FastLora(model)
    exact = learnt(model, name, None)
    for key, value in model.named_parameters():
        if "lora_" not in key:
            value.data = value.data.to(torch.bfloat16)
    theirs, ours = learnt(model, name, None), learnt(model, name, fast)
    for key, value in exact.items():
        if key != "logits":
            assert ours[key].dtype == torch.float32
            far = [float((found[key] - value).norm() / value.norm()) for found in (ours, theirs)]
            assert far[0] < 2 * far[1] + 0.02, (key, far)


@pytest.mark.parametrize("more", [{"use_dora": True}, {"lora_dropout": 0.1}, {"lora_bias": True}])
def test_what_is_no_plain_lora_learns_in_peft(weights: Weights, more) -> None:
    model, name = weights.in_peft(weights.begin_training(lora(4, **more)))
    assert not FastLora(model).learns(name)
