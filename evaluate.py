"""Scores restored pictures against the originals: a table, summary.json, per_image.csv and report.html.

    uv run evaluate.py                                                    bicubic on synthetic faces, to see it work
    uv run evaluate.py restored=DIR high=DIR low=DIR                      a folder of restored pictures
    uv run evaluate.py method=bicubic low=DIR high=DIR                    restores first: bicubic | nearest | a snapshot
    uv run evaluate.py method=runs/NAME                                   ... or a run, here on synthetic faces
    uv run evaluate.py method=pulse low=DIR high=DIR                      invents faces that fit (docs/pulse.md)
    uv run evaluate.py submission=FILE.zip low=DIR high=DIR               a team's archive, verified first
    uv run evaluate.py submission=FILE.zip ... power_limit_watts=3000     ... and its power against the limit of 2019
    uv run evaluate.py ... embedder=facenet_vggface2 embedder.weights=FILE judges=[edgeface,mobilefacenet_ms1m]
    uv run evaluate.py ... protocol=asc19_final protocol.strict=false     the rules of the 2019 script
    uv run evaluate.py ... attributes=FILE.csv                            scores per group of faces
    uv run evaluate.py protocol=asc19_preliminary method=bicubic low=DIR high=DIR niqe.model=modelparameters.mat
    uv run evaluate.py study=tradeoff entries=[DIR,runs/NAME,FILE.zip,...] low=DIR high=DIR [protocol=...]
    uv run evaluate.py study=tradeoff method=runs/PSNR interpolate_with=runs/GAN low=DIR high=DIR       ... and a curve
    uv run evaluate.py study=resolution high=DIR judges=[...]             how much identity is left at which size
    uv run evaluate.py study=robustness method=runs/NAME high=DIR [operators=[jpeg,...]]  other ways to degrade

`embedder` ranks, `judges` are shown beside it. Runs on many ranks too: torchrun --nproc-per-node 2 evaluate.py ...
docs/evaluation.md explains protocols, metrics and files.
"""

from facesr.evaluation.command import main

if __name__ == "__main__":
    main()
