"""A finished run as a folder of Hugging Face: an adapter or a model, with its tokenizer and a model card."""
