"""Detection of sentences that do not state a value: denials, doubts, refusals and second thoughts."""

from __future__ import annotations

import re

_DENIES = re.compile(
    r"^\W*if\b|\b(?:not|no|non|never|neither|nor|none|nothing|nobody|without|cannot|hardly|barely|scarcely|lacks?|lacking|excludes?|excluded|"
    r"excluding|except|unlike|unless|un(?:likely|clear|sure|certain|able|related)|"
    r"(?:ca|do|does|did|is|are|was|were|wo|would|should|could|has|have|had)nt|"
    r"den(?:y|ies|ied)|reject(?:s|ed)?|refus(?:e|es|ed|al)|declin(?:e|es|ed)|fail(?:s|ed)? to|"
    r"rather than|instead of|other than|anything but|all but|far from|as opposed to|ruled? out|"
    r"(?:is|was|would be|be|are) (?:wrong|incorrect|false|inaccurate)|"
    r"maybe|perhaps|possibly|might|may|could|whether|doubt\w*|depends|either|"
    r"hard to (?:say|tell)|difficult to (?:say|tell)|please (?:provide|clarify|specify|share|send|give)|"
    r"sorry|apologi[sz]e|"
    r"pas|jamais|sans|kein(?:e[nmrs]?)?|nicht|nie|niemals|ohne|ning[uú]n[ao]?|nunca|tampoco|nessun[ao]?|não|niet|geen|"
    r"inte|ikke|нет|не)\b|\w+n['\u2019]t\b|不|没|沒|無|ない|なく|않|아니",
    re.IGNORECASE,
)
_UNDECIDED = re.compile(
    r"\bi(?:['\u2019]?m| am) (?:\w+ )?(?:sorry|unable|not (?:able|sure|certain|allowed)|unsure|uncertain)\b|"
    r"\bi (?:must|have to) (?:decline|refuse)\b|\bi (?:decline|refuse)\b|\bi apologi[sz]e\b|"
    r"\b(?:can['\u2019]?t|cannot|can not|won['\u2019]?t|unable to|not able to) "
    r"(?:help|assist|answer|say|tell|determine|give|provide|comply|classify|decide|judge|discuss|be determined|know)\b|"
    r"\bas an? (?:ai|artificial intelligence|language model)\b|\b(?:do not|don['\u2019]?t) know\b|"
    r"\bnot enough (?:information|context|details)\b|"
    r"\b(?:no,? )?wait\b[,.!]|\bscratch that\b|\bcorrection\s*:|\bon second thought\b|\bmy mistake\b|\bi was wrong\b|"
    r"\bthat(?:['\u2019]s| is) (?:wrong|not right|incorrect)\b|\blet me (?:re-?think|re-?consider|correct)\b|\bactually,",
    re.IGNORECASE,
)


def denies(sentence: str) -> bool:
    """Return whether a text has a word or phrase that denies, doubts or refuses (`not`, `perhaps`, `sorry`; some of
    other languages too).

    Pass the sentence without the value that it mentions, since a value such as `no` counts as a denial.
    """
    return _DENIES.search(sentence) is not None


def undecided(reply: str) -> bool:
    """Return whether an English phrase in a reply refuses, says that the answer is not known, or takes something back."""
    return _UNDECIDED.search(reply) is not None
