"""`docs/paper.md`: what the LoRA paper (Hu et al. 2021) claims, and what our studies say of it."""
