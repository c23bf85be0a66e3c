"""Decoder layers as few large operations, against transformers and peft: the same logits and gradients, in fp32."""

from __future__ import annotations

from contextlib import nullcontext
from unittest.mock import patch

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
peft = pytest.importorskip("peft", reason="needs the extra 'local'")

from lmprog.lms.local import attention, layer_gradients  # noqa: E402
from lmprog.lms.local.layers import decoder_layers, joined  # noqa: E402
from lmprog.lms.local.lora import FastLora  # noqa: E402
from lmprog.optimizers.grpo.torch.logprobs import tree_logprobs  # noqa: E402

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_implementation": attention.NAME,
}
SEQUENCES = [[5, 6, 7, 8, 9, 10 + n % 3, 20 + n] for n in range(6)] + [[5, 6, 7, 30, 31, 32]]
REPLIES = [2, 2, 2, 1, 2, 2, 3]


def adapted(kind: str, targets):
    import transformers

    torch.manual_seed(0)
    kind, _, biased = kind.partition("+")
    more = {"attention_bias": True, "mlp_bias": True} if biased else {}
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**SIZES, **more))
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=targets,
        rank_pattern={"k_proj": 2} if targets == "all-linear" else {},
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif "bias" in name:
                parameter.uniform_(-0.3, 0.3)
            elif "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


def learnt(model, fast: FastLora | None) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with nullcontext() if fast is None else fast.learning("default"):
        found, _ = tree_logprobs(model, SEQUENCES, REPLIES)
    (found * torch.linspace(-1, 2, len(found))).sum().backward()
    gradients = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    return {"logprobs": found.detach(), **gradients}


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj", "down_proj"], ["up_proj"]])
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Llama+biases"])
def test_a_layer_learns_what_it_learns_in_peft(kind: str, targets) -> None:
    model = adapted(kind, targets)
    fast = FastLora(model)
    assert len(fast._decoders) == SIZES["num_hidden_layers"]
    wanted = learnt(model, None)
    with patch.object(layer_gradients._Layer, "apply", wraps=layer_gradients._Layer.apply) as applied:
        found = learnt(model, fast)
    assert applied.call_count == SIZES["num_hidden_layers"]
    assert wanted.keys() == found.keys() and len(wanted) > 3 * 2
    for key, value in wanted.items():
        assert value.abs().max() > 0, key
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()), msg=key)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Llama+biases"])
def test_a_layer_answers_as_peft_has_it(kind: str) -> None:
    model = adapted(kind, "all-linear").eval()
    fast = FastLora(model)
    for ids in (torch.tensor([[5, 9, 33, 2, 60]]), torch.tensor([[5, 9, 33, 2, 60], [7, 7, 1, 40, 3]])):
        wanted = model(input_ids=ids).logits
        with fast.serving("default", 0):
            torch.testing.assert_close(model(input_ids=ids).logits, wanted, atol=1e-5, rtol=1e-5)
        with fast.serving(None, 0), model.disable_adapter():
            found = model(input_ids=ids).logits
        with model.disable_adapter():
            torch.testing.assert_close(found, model(input_ids=ids).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_layer_answers_by_the_weights_and_biases_of_now() -> None:
    """Change them in place, or replace them, as where all weights of a model are trained."""
    model = adapted("Qwen2", "all-linear").eval()
    fast = FastLora(model)
    ids = torch.tensor([[5, 9, 33, 2, 60]])
    for change in range(3):
        with fast.serving("default", change):
            found = model(input_ids=ids).logits
        torch.testing.assert_close(found, model(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
        for name, parameter in model.named_parameters():
            if "k_proj" in name and "lora" not in name:
                parameter.mul_(1.1) if change else setattr(parameter, "data", parameter.data * 1.1)


def test_weights_that_were_replaced_are_joined_anew() -> None:
    (layer, *_) = decoder_layers(adapted("Llama", "all-linear"))
    bases = layer.bases[0]
    whole, _ = joined(bases)
    assert torch.equal(whole, torch.cat([base.weight for base in bases])) and joined(bases)[0] is whole
    bases[1].weight.data = bases[1].weight.data * 2
    again, _ = joined(bases)
    assert again is not whole and torch.equal(again, torch.cat([base.weight for base in bases]))


def test_layers_of_another_shape_answer_by_their_own_forward() -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    assert decoder_layers(Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8))) == []
