"""The models that answer: one in this process, one behind an address, or one of a provider that litellm reaches."""
