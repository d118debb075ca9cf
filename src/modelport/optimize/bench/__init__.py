"""What a bundle costs here: by runtime, variant, threads and batch size; stage by stage, by operators."""
