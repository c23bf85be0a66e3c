"""The shape of an entry of `lms`, and of an adapter."""

from __future__ import annotations

from lmprog.compiler.shape import Anything, Boolean, Choice, Either, ListOf, MapOf, Number, Record, Text

ADAPTER = Either(
    scalar=Text(),
    mapping=Record(
        {
            "path": Text(about="A folder, or hf://organization/name@revision.", example="adapters/classify"),
            "sha256": Text(
                about="Digest of the adapter's weights; another one is refused.",
                default="not compared",
                example=f'"{64 * "0"}"',
            ),
            "base": Text(
                about="The base model it was trained on.", default="not compared", example="embedded/smollm2-135m"
            ),
            "base_sha256": Text(
                about="Digest of the base model's weights.", default="not compared", example=f'"{64 * "0"}"'
            ),
        },
        required=("path",),
    ),
    about="The LoRA adapter: a path, or {path, sha256, base, base_sha256}.",
    default="none",
    example="adapters/classify",
)

LM = Record(
    {
        "model": Text(
            about="embedded/smollm2-135m, hf/<folder>, hf/<organization/name@revision>, or any litellm model string.",
            example="openai/gpt-4.1-mini",
        ),
        "params": MapOf(
            Anything(),
            "parameter",
            free=True,
            about="temperature, max_tokens, top_p, ... for running and scoring; they are sent as they stand.",
            default="those of the provider; a model in this process answers greedily",
            example="{temperature: 0.6, max_tokens: 256}",
        ),
        "trusted": Boolean(
            about="Whether private values may reach it.",
            default="true for models in this process, else false",
            example="true",
        ),
        "api_key": Anything(
            about="${{ env.NAME }}: a key is never written into the file.",
            default="the variable that the provider's own tools read, such as OPENAI_API_KEY",
            example="${{ env.OPENAI_API_KEY }}",
        ),
        "api_base": Either(
            scalar=Anything(),
            sequence=ListOf(Anything(), 1),
            mapping=Record(
                {
                    "discover": Text(
                        about="A file of addresses, one on a line, which is read again as it changes.",
                        example="servers.txt",
                    )
                },
                required=("discover",),
            ),
            about="The server's address, or ${{ env.NAME }}; a list of servers that share the calls, or {discover: FILE}.",
            default="the provider's own address",
            example="http://localhost:8000/v1",
        ),
        "adapter": ADAPTER,
        "adapter_store": Either(
            scalar=Text(),
            mapping=Record(
                {
                    "write": Text(
                        about="Where adapters are written: a folder, or a URL that fsspec knows.",
                        example="s3://bucket/run",
                    ),
                    "read": Text(about="The name of the same place on the servers.", example="/mnt/bucket/run"),
                },
                required=("write", "read"),
            ),
            about="A place to which adapters are copied for servers of vLLM: a shared folder, a URL that fsspec knows, or "
            "{write: ..., read: ...} where the servers see it under another name.",
            default="the servers see the folders of this machine",
            example="/shared/adapters",
        ),
        "weights": Text(
            about="What a server of vLLM (hosted_vllm/...) serves, as hf/<repo or folder>: it is trained here, sampled there.",
            default="the weights cannot be tuned",
            example="hf/Qwen/Qwen3-8B",
        ),
        "load": Choice(
            ("4bit",),
            about="How an hf/ model is loaded in this process: 4bit keeps the weights of its linear layers in 4 bits.",
            default="as its files have it",
            example="4bit",
        ),
        "context": Number(
            whole=True,
            least=1,
            about="Context window in tokens.",
            default="from the model or a table of models, where they have it",
            example="32768",
        ),
        "price": Record(
            {
                "input": Number(
                    least=0,
                    about="US dollars for a million prompt tokens.",
                    default="from a table of models, where it has it",
                    example="0.4",
                ),
                "output": Number(
                    least=0,
                    about="US dollars for a million completion tokens.",
                    default="from a table of models, where it has it",
                    example="1.6",
                ),
                "cached": Number(
                    least=0,
                    about="US dollars for a million prompt tokens that the provider had kept.",
                    default="as input",
                    example="0.1",
                ),
                "training": Number(
                    least=0,
                    about="US dollars for a million tokens of training, where the provider fine-tunes it.",
                    default="from a table of OpenAI's models, where it has it",
                    example="5",
                ),
            },
            about="Prices in US dollars for a million tokens.",
            default="from a table of models, where it has them",
            example="{input: 0.4, output: 1.6}",
        ),
        "speed": Record(
            {
                "input": Number(least=0, about="Prompt tokens that it reads in a second.", example="4000"),
                "output": Number(
                    least=0, about="Tokens that it writes in a second, all replies together.", example="300"
                ),
            },
            required=("input", "output"),
            about="How fast a model is in this process, for the time that `optimize --dry-run` estimates.",
            default="the time is unknown until a run is finished",
            example="{input: 4000, output: 300}",
        ),
        "headers": MapOf(
            Anything(),
            "header",
            free=True,
            about="Sent with each request; ${{ env.NAME }} for a secret.",
            default="none",
            example='{X-Team: "${{ env.TEAM_TOKEN }}"}',
        ),
        "limits": Record(
            {
                "concurrency": Number(
                    whole=True, least=1, about="Most calls in flight.", default="no limit", example="50"
                ),
                "requests_per_minute": Number(
                    least=1,
                    about="Most requests in a minute, spaced evenly.",
                    default="no limit",
                    example="600",
                ),
                "tokens_per_minute": Number(
                    least=1,
                    about="Most tokens in a minute, of prompts and replies together.",
                    default="no limit",
                    example="200000",
                ),
                "timeout": Number(above=0, about="Seconds of one try.", default="120", example="60"),
                "tries": Number(
                    whole=True, least=1, about="Tries of one call, the first included.", default="8", example="4"
                ),
                "reply_mb": Number(
                    least=0,
                    about="The longest body of a reply that is read, in millions of bytes.",
                    default="32",
                    example="8",
                ),
            },
            about="Rate limits, timeout and tries of an LM behind an API.",
            default="no rate limit; 8 tries of 120 seconds",
            example="{concurrency: 50, requests_per_minute: 600}",
        ),
        "fallback": ListOf(
            Text(),
            1,
            about="LMs that are asked, in this order, where this one gives no reply after all its tries.",
            default="the call fails",
            example="[other]",
        ),
        "balance": ListOf(
            Text(),
            1,
            about="LMs that share its calls, each as many; one that gives no reply is passed over for the next.",
            default="it answers all of its calls",
            example="[other]",
        ),
        "tool_protocol": Choice(
            ("native", "text"),
            about="How agents call tools: as the API has it, or in words.",
            default="native behind an API, text in this process",
            example="text",
        ),
        "cache": Either(
            scalar=Boolean(),
            mapping=Record(
                {
                    "shared": Boolean(
                        about="Whether others can read what is cached: private values are then kept out.",
                        default="false",
                        example="true",
                    ),
                    "folder": Text(
                        about="Where it is kept, beside this file.",
                        default="the user's own cache; with `shared` $LMPROG_SHARED_CACHE",
                        example="answers",
                    ),
                }
            ),
            about="Whether replies are kept and given again to equal requests; {shared: true, folder: ...} is a sink of "
            "private data.",
            default="false",
            example="true",
        ),
    },
    required=("model",),
)
