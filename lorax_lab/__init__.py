"""How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it?"""

__version__ = "0.1.0"
