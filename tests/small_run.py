"""Settings of a run whose steps are as little as they can be: starting a rank takes far longer."""

SMALL = (
    "device=cpu",
    "precision=fp32",
    "batch_size=2",
    "schedule.warmup_kimg=0",
    "log_every_kimg=0.02",
    "validation_every_kimg=100",
    "embedder=none",
    "data.train.num_faces=24",
    "data.validation.num_faces=2",
    "generator.channels=32",
    "generator.num_blocks=1",
    "generator.channels_up=32",
    "generator.num_hourglass_blocks=0",
    "~losses.identity",
    "~losses.adversarial",
)
