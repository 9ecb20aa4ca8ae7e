"""English sentences for the synthetic corpus: real words, a small grammar, rich in all 39 phones."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

# Rare phones: ZH (treasure), OY (voyage), UH (wool), TH (moth), JH (giant), AW (cloud), NG (king), Y (yacht).
WORDS = {
    "adjective": """
        ancient azure beige bitter blue bright broken brown calm careful cheap cheerful clever cloudy coarse cold
        curious damp dark deep early earthy empty enormous famous fearless foolish fresh friendly gentle giant gloomy
        golden good great green hollow huge humble hungry icy joyful kind large lazy little lonely loud loyal lucky
        mighty moist narrow noisy odd pale patient plain polite proud pure purple quick quiet rare raw red rough royal
        sharp shiny short shy silent silver simple sleepy slow smooth soft sour spoiled steep strange strong sturdy
        sweet tall thick thin thirsty tiny unusual useful vague vast velvet warm wealthy wet whole wild wise wooden
        wooly worthy yellow young youthful""",
    "person": """
        actor aunt baker boy brother captain chief child cook cousin cowboy crowd daughter doctor farmer father fisher
        girl governor guard guide hunter judge jury king lady lawyer merchant miner mother musician neighbor nurse
        painter physician pilot poet prince queen rider robber sailor scholar shepherd singer soldier student tailor
        teacher thief traveler uncle usher visitor voyager watchman weaver witness woman writer youth""",
    "thing": """
        anchor apple arrow axe barrel basket bean bell bench blanket boat bone book bottle bowl box branch bread bridge
        broom brush bucket button cage cake candle carriage cart chain chair cheese church clock cloth cloud coat coin
        collage compass cookie crown cup curtain cushion diamond dish door dragon drum earring egg engine feather fence
        field fire fish flag flower fog foot fountain fruit garage garden garment gate ghost glass glove goat goose
        grass hammer harp hat hook horn horse house island jacket jar jewel joint kettle key kitchen knife ladder
        lantern leaf leather lemon letter lever machine map measure meat medal milk mirage mirror moon moth mountain
        mouth needle noise oak oil orange oven owl oyster package page paper path pearl pepper piano picture pigeon
        pillow planet plough poem poison pond potato pudding purse puzzle rabbit rain ring river road rock roof root
        rope rouge rug sail salt sand school sheep shell ship shoe shovel sky smoke snake soil song soup spoon spring
        square star statue stone stool storm story stove stream sugar sun sword table thread throne thumb thunder
        ticket tooth toy treasure tree trumpet tunnel turkey umbrella valley vase village vine violin voice wagon wall
        watch water whale wheat wheel whistle window wing wire wolf wood wool worm yacht yard yarn zebra""",
    "did": """
        admired allowed annoyed avoided believed bought brought caught changed chose counted described destroyed drew
        enjoyed feared followed forgot found gathered guarded heard hid judged kept knew leveled loved lowered measured
        mentioned moved noticed offered painted paid passed pictured pointed praised promised pushed put raised reached
        remembered sang searched shook showed sold stole studied thanked thought took touched treasured trusted turned
        used viewed visited wanted washed watched wished""",
    "acted": """
        appeared arrived awoke complained crouched danced disappeared dreamed fell fought growled jumped laughed leaned
        lingered paused played rejoiced returned rose rushed shouted shrugged sighed slept smiled stood stumbled swam
        thrived traveled vanished waited walked wandered whispered yawned""",
    "place": """
        above across against along among around before behind below beneath beside between beyond by near opposite past
        through toward under with without""",
    "lead": """
        after the collision|as usual|at the garage door|by the fourth hour|for the next voyage|in the third month
        |long before sunrise|on this occasion|out of pure joy|to avoid confusion|with great pleasure|without a choice
        |without any warning|years ago""",
    "joint": "and|but|so|while|because|although|until|yet",
}  # fmt: skip
TEMPLATES = """
The {adjective} {person} {did} the {adjective} {thing}, {joint} the {person} {acted} {place} the {thing}.
{lead}, the {adjective} {person} {acted} {place} the {adjective} {thing}.
The {person} {did} both the {thing} and the {adjective} {thing} {place} the {adjective} {thing}.
{lead}, the {person} {did} your {adjective} {thing}, {joint} they {acted} {place} the {thing}.
No {person} {did} the {adjective} {thing} {place} the {adjective} {thing} of the {person}.
She {did} our {thing}, {joint} her {adjective} {person} {acted} {place} the {adjective} {thing}.
A {adjective} {thing} and a {adjective} {thing} stood {place} the {thing}, {joint} the {person} {acted}.
He {did} how the {adjective} {person} {acted} {place} the {thing} with the {adjective} {thing}.
Where the {thing} {acted}, the {adjective} {person} {did} the {thing} of the {adjective} {person}.
""".strip().splitlines()
_SPLIT = {name: words.replace("\n", " ").split("|") if "|" in words else words.split() for name, words in WORDS.items()}
_LISTS = {name: [" ".join(word.split()) for word in words] for name, words in _SPLIT.items()}


def sentences(seed: str | int) -> Iterator[str]:
    """An endless stream of sentences, punctuated, the same for the same seed."""
    choice = random.Random(seed).choice  # the same on every platform and Python version
    while True:
        sentence = re.sub(r"\{(\w+)\}", lambda match: choice(_LISTS[match[1]]), choice(TEMPLATES))
        yield sentence[0].upper() + sentence[1:]


def transcript(sentence: str) -> str:
    """LibriSpeech's form: upper-case words without punctuation."""
    return " ".join(re.findall(r"[A-Z']+", sentence.upper()))
