"""Makes a submission archive, or verifies one.

    uv run submit.py checkpoint=runs/NAME low=DIR team=NAME out=FILE.zip [self_ensemble=true] [protocol=asc19_final]
    uv run submit.py checkpoint=runs/PSNR interpolate_with=runs/GAN interpolation_weight=0.5 low=DIR team=NAME
    out=FILE.zip uv run submit.py checkpoint=runs/NAME low=DIR team=NAME out=FILE.zip protocol=asc19_preliminary
    [script=DIR] uv run submit.py verify=FILE.zip low=DIR [protocol=asc19_final]

`checkpoint` (or `method`, as evaluate.py calls it) is a run folder, a snapshot file, bicubic, nearest or pulse
(docs/pulse.md). Pictures are restored into a folder below restored_dir, packed from there and verified;
docs/submission.md describes the archive.
"""

from facesr.submission.command import main

if __name__ == "__main__":
    main()
