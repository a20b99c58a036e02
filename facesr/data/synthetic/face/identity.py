"""Who is drawn and how: identity parameters and nuisance parameters of the synthetic faces.

An `Identity` is what stays the same in every picture of a person, a `Picture` what changes between them.
Both are pure functions of integers, so face number i of a set never depends on the faces before it.
Lengths are in face units: 1 unit is 1 pixel of a 96x112 picture at scale 1, with eyes about 29.5 units apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RGB = tuple[float, float, float]

# From light to dark; the sampler walks along this line and adds an undertone.
_SKINS = np.array(
    [
        (247, 216, 196),
        (236, 196, 168),
        (222, 176, 142),
        (196, 146, 108),
        (160, 109, 76),
        (119, 78, 54),
        (84, 54, 40),
    ],
    dtype=np.float64,
)
_HAIRS: dict[str, RGB] = {
    "black": (46, 38, 37),
    "dark brown": (62, 42, 32),
    "brown": (98, 66, 44),
    "chestnut": (116, 62, 38),
    "red": (160, 76, 36),
    "dark blond": (150, 114, 72),
    "blond": (204, 168, 112),
    "platinum": (226, 208, 174),
    "grey": (150, 148, 148),
    "white": (214, 212, 208),
    "dyed": (142, 48, 92),
}
_IRISES: dict[str, RGB] = {
    "dark": (52, 32, 22),
    "brown": (92, 56, 30),
    "amber": (140, 92, 38),
    "hazel": (112, 104, 54),
    "green": (84, 124, 82),
    "blue": (82, 124, 168),
    "grey": (122, 138, 148),
}
SHORT_STYLES = ("swept", "side part", "crop", "curly", "bald", "quiff")
LONG_STYLES = ("middle part", "long side part", "fringe", "bob", "bun", "afro", "long curls")


@dataclass(frozen=True)
class Identity:
    """Parameters of one person: lengths in face units, colours as RGB 0..255, shares in [0, 1]."""

    number: int
    detail_seed: int
    masculine: float
    age: float
    skin: RGB
    face_width: float
    temple_width: float
    jaw_width: float
    chin_width: float
    chin_length: float
    forehead: float
    recession: float
    eye_spacing: float
    eye_width: float
    eye_height: float
    eye_slant: float
    lid_fold: float
    iris: RGB
    lashes: float
    brow_thickness: float
    brow_arch: float
    brow_height: float
    brow_tilt: float
    brow_length: float
    nose_length: float
    nose_width: float
    nose_bridge: float
    nose_tip: float
    mouth_height: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    cupid: float
    lip: RGB
    cheek: float
    hair_style: str
    hair: RGB
    hair_length: float
    hair_part: float
    hair_wave: float
    hair_volume: float
    ear_size: float
    beard_style: str
    beard_density: float
    freckles: int
    moles: int
    wrinkles: float
    glasses: str
    glasses_colour: RGB
    makeup: float
    earring: bool


@dataclass(frozen=True)
class Picture:
    """Parameters of one picture of a person: angles in degrees, shifts in pixels, strengths in [0, 1]."""

    detail_seed: int
    roll: float
    yaw: float
    pitch: float
    scale: float
    shift_x: float
    shift_y: float
    smile: float
    mouth_open: float
    gaze_x: float
    gaze_y: float
    blink: float
    brow_raise: float
    light: tuple[float, float, float]
    ambient: float
    exposure: float
    contrast: float
    cast: RGB
    grey: bool
    hat: str
    hat_colour: RGB
    sunglasses: bool
    clothes: str
    clothes_colour: RGB
    second_colour: RGB
    softness: float
    noise: float


def generator(*key: int) -> np.random.Generator:
    """Random generator that depends on nothing but the non-negative integers of its key."""
    return np.random.default_rng(np.random.SeedSequence(key))


def _near(rng: np.random.Generator, mean: float, spread: float, limit: float = 2.2) -> float:
    """Normal draw around `mean`, kept within `limit` standard deviations."""
    return mean + spread * min(limit, max(-limit, float(rng.standard_normal())))


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """Name drawn with a chance in proportion to its weight."""
    at = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        at -= weight
        if at < 0.0:
            return name
    return name


def _rgb(values: np.ndarray) -> RGB:
    r, g, b = (float(v) for v in np.clip(values, 0, 255))
    return r, g, b


def vivid_colour(rng: np.random.Generator) -> RGB:
    """Colour of cloth or wall, RGB 0..255: any hue, mostly muted, sometimes saturated."""
    hue = rng.random() * 6.0
    saturation = rng.beta(1.3, 1.9)
    value = 35 + 215 * rng.beta(1.4, 1.3)
    wheel = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return _rgb(value * (1.0 - saturation * (1.0 - wheel)))


def _cast(rng: np.random.Generator) -> RGB:
    """Gain of each channel: a little of any colour, more along the line from warm to cold light."""
    r, g, b = 1.0 + rng.normal(0.0, 0.03, 3) + rng.normal(0.0, 0.045) * np.array([1.0, 0.0, -1.0])
    return float(r), float(g), float(b)


def _skin(rng: np.random.Generator) -> tuple[float, RGB]:
    """Darkness in [0, 1] and colour of the skin."""
    darkness = float(rng.beta(1.1, 1.7))
    place = darkness * (len(_SKINS) - 1)
    low = min(int(place), len(_SKINS) - 2)
    colour = _SKINS[low] + (place - low) * (_SKINS[low + 1] - _SKINS[low])
    undertone = rng.normal(0.0, 1.0) * np.array([3.0, -1.0, -5.0]) + rng.normal(0.0, 2.0, 3)
    return darkness, _rgb(colour + undertone)


def _hair(rng: np.random.Generator, darkness: float, age: float) -> RGB:
    fair = max(0.0, 1.0 - 2.2 * darkness)
    weights = {
        "black": 0.5 + 2.5 * darkness,
        "dark brown": 1.0,
        "brown": 0.3 + fair,
        "chestnut": 0.1 + 0.6 * fair,
        "red": 0.03 + 0.45 * fair,
        "dark blond": 0.03 + 0.8 * fair,
        "blond": 0.03 + 0.8 * fair,
        "platinum": 0.02 + 0.2 * fair,
        "grey": 4.0 * max(0.0, age - 0.62),
        "white": 6.0 * max(0.0, age - 0.74),
        "dyed": 0.06,
    }
    return _rgb(np.array(_HAIRS[_pick(rng, weights)]) * _near(rng, 1.0, 0.12) + rng.normal(0.0, 3.0, 3))


def _iris(rng: np.random.Generator, darkness: float) -> RGB:
    fair = max(0.0, 1.0 - 2.0 * darkness)
    weights = {
        "dark": 0.3 + 2.0 * darkness,
        "brown": 1.0,
        "amber": 0.2,
        "hazel": 0.1 + 0.5 * fair,
        "green": 0.02 + 0.6 * fair,
        "blue": 0.02 + 1.2 * fair,
        "grey": 0.02 + 0.4 * fair,
    }
    return _rgb(np.array(_IRISES[_pick(rng, weights)]) * _near(rng, 1.0, 0.1) + rng.normal(0.0, 4.0, 3))


def _hair_style(rng: np.random.Generator, masculine: float, age: float) -> str:
    if rng.random() < masculine:
        weights = dict.fromkeys(SHORT_STYLES, 1.0) | {"bald": 0.2 + 1.2 * age, "long side part": 0.15}
    else:
        weights = dict.fromkeys(LONG_STYLES, 1.0) | {"afro": 0.4, "side part": 0.25, "curly": 0.3}
    return _pick(rng, weights)


def _beard_style(rng: np.random.Generator, masculine: float, age: float) -> str:
    if masculine < 0.6 or age < 0.12:
        return "none"
    weights = {"none": 3.0, "stubble": 1.2, "moustache": 0.6, "goatee": 0.7, "full": 1.2}
    return _pick(rng, weights)


def draw_identity(seed: int, number: int) -> Identity:
    """Parameters of person `number` of the set `seed`; no other person's parameters influence them."""
    rng = generator(seed, number, 0)
    masculine = float(np.clip(rng.beta(0.35, 0.35), 0.03, 0.97))
    age = float(rng.beta(1.4, 2.0))
    darkness, skin = _skin(rng)
    hair = _hair(rng, darkness, age)
    man = masculine - 0.5
    makeup = float(rng.random() ** 1.5) * (1.0 - masculine)
    natural_lip = np.array(skin) * (0.86, 0.64, 0.64) + (8.0, 0.0, 4.0)
    stick = np.array((176.0, 34.0, 56.0)) + rng.normal(0.0, 18.0, 3)
    paint = 0.8 * makeup if makeup > 0.35 else 0.1 * makeup
    style = _hair_style(rng, masculine, age)
    face_width = _near(rng, 30.3 + 0.8 * man, 1.7)
    return Identity(
        number=number,
        detail_seed=int(rng.integers(2**31)),
        masculine=masculine,
        age=age,
        skin=skin,
        face_width=face_width,
        temple_width=face_width - _near(rng, 1.2, 0.9),
        jaw_width=face_width * _near(rng, 0.79 + 0.08 * man, 0.045),
        chin_width=_near(rng, 10.5 + 3.5 * man, 1.6),
        chin_length=_near(rng, 47.0 + 2.0 * man, 2.3),
        forehead=_near(rng, 26.5 + 2.0 * age * masculine, 2.0),
        recession=float(np.clip(_near(rng, masculine * (0.15 + 0.8 * age), 0.18), 0.0, 1.0)),
        eye_spacing=_near(rng, 29.5, 1.3),
        eye_width=_near(rng, 13.7, 0.9),
        eye_height=_near(rng, 6.2 - 1.0 * man - 0.6 * age, 0.8),
        eye_slant=_near(rng, 0.7, 0.9),
        lid_fold=float(np.clip(_near(rng, 0.6, 0.35), 0.0, 1.0)),
        iris=_iris(rng, darkness),
        lashes=float(np.clip(_near(rng, 0.55 - 0.7 * man, 0.2), 0.05, 1.0)),
        brow_thickness=_near(rng, 2.3 + 1.1 * man, 0.5),
        brow_arch=_near(rng, 1.7 - 1.3 * man, 0.8),
        brow_height=_near(rng, 8.6 - 1.2 * man, 0.9),
        brow_tilt=_near(rng, -0.2 - 0.6 * man, 0.8),
        brow_length=_near(rng, 17.0, 1.1),
        nose_length=_near(rng, 17.5 + 0.6 * man, 1.7),
        nose_width=_near(rng, 7.3 + 0.9 * man + 1.6 * darkness, 0.8),
        nose_bridge=_near(rng, 3.0 + 0.7 * darkness, 0.5),
        nose_tip=_near(rng, 0.0, 1.0),
        mouth_height=_near(rng, 14.2, 0.9),
        mouth_width=_near(rng, 11.6 + 0.4 * man, 1.2),
        lip_upper=_near(rng, 2.3 - 0.5 * man + 1.1 * darkness - 0.7 * age, 0.45),
        lip_lower=_near(rng, 3.3 - 0.5 * man + 1.0 * darkness - 0.7 * age, 0.55),
        cupid=float(np.clip(_near(rng, 0.55, 0.3), 0.0, 1.2)),
        lip=_rgb(natural_lip + paint * (stick - natural_lip)),
        cheek=_near(rng, 0.5, 0.35),
        hair_style=style,
        hair=hair,
        hair_length=_near(rng, 58.0, 14.0),
        hair_part=_near(rng, 0.0, 9.0, 1.5),
        hair_wave=float(max(0.0, _near(rng, 0.35, 0.5))),
        hair_volume=_near(rng, 5.5, 1.8),
        ear_size=_near(rng, 1.0 + 0.1 * man, 0.1),
        beard_style=_beard_style(rng, masculine, age),
        beard_density=_near(rng, 0.7, 0.15),
        freckles=int(rng.integers(25, 90)) if rng.random() < 0.25 * (1.0 - darkness) else 0,
        moles=int(rng.integers(1, 4)) if rng.random() < 0.18 else 0,
        wrinkles=float(np.clip(1.5 * (age - 0.3) + 0.15 * rng.random(), 0.0, 1.0)),
        glasses=_pick(rng, {"none": 0.84 - 0.2 * age, "round": 0.06 + 0.05 * age, "square": 0.1 + 0.1 * age}),
        glasses_colour=_rgb(np.array(vivid_colour(rng)) * (0.25 if rng.random() < 0.8 else 0.8)),
        makeup=makeup,
        earring=bool(rng.random() < 0.5 * (1.0 - masculine)),
    )


def draw_picture(seed: int, number: int, picture: int) -> Picture:
    """Parameters of picture `picture` of person `number` of the set `seed`."""
    rng = generator(seed, number, 1 + picture)
    hat = _pick(rng, {"none": 0.9, "cap": 0.045, "beanie": 0.055})
    azimuth = rng.normal(0.0, 0.6)
    return Picture(
        detail_seed=int(rng.integers(2**31)),
        roll=_near(rng, 1.0, 13.2, 2.7),
        yaw=_near(rng, 0.0, 13.0, 2.1),
        pitch=_near(rng, 0.0, 6.0, 2.0),
        scale=_near(rng, 1.0, 0.06),
        shift_x=_near(rng, 0.0, 1.6),
        shift_y=_near(rng, 0.0, 1.8),
        smile=float(np.clip(_near(rng, 0.5, 0.4), -0.25, 1.0)),
        mouth_open=float(max(0.0, _near(rng, -0.1, 0.5))),
        gaze_x=_near(rng, 0.0, 0.45),
        gaze_y=_near(rng, 0.0, 0.25),
        blink=1.0 if rng.random() < 0.05 else float(0.3 * rng.random() ** 2),
        brow_raise=_near(rng, 0.0, 0.8),
        light=(float(azimuth), float(-_near(rng, 0.55, 0.3)), float(_near(rng, 0.95, 0.2))),
        ambient=float(rng.uniform(0.28, 0.62)),
        exposure=_near(rng, 1.02, 0.12),
        contrast=_near(rng, 1.08, 0.12),
        cast=_cast(rng),
        grey=bool(rng.random() < 0.09),
        hat=hat,
        hat_colour=vivid_colour(rng),
        sunglasses=bool(rng.random() < 0.04),
        clothes=_pick(rng, {"round": 1.0, "v": 0.7, "shirt": 0.9, "suit": 0.6, "hood": 0.5, "high": 0.5}),
        clothes_colour=vivid_colour(rng),
        second_colour=vivid_colour(rng),
        softness=float(max(0.0, _near(rng, 0.12, 0.25))),
        noise=float(rng.gamma(1.6, 0.7)),
    )
