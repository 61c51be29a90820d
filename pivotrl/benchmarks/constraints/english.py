"""What the checks must know of English: word lists, syllables, and whether a word is a verb.

These stand in for NLTK's stop words and tagger and for syllapy's dictionary, and are approximate:
syllables are counted by rule (odd or even as in syllapy for 96 % of running words), and a first
word counts as a verb when it is a listed verb or has a verb's ending, whatever follows. This module
must never know a constraint.
"""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ABBREVIATIONS = _set(
    """c d e f g h k l m n p r s t v w
    mr mrs ms dr prof st sr jr gen sen rep col lt maj adm messrs inc ltd co corp cos bros vs
    jan feb aug sep sept oct nov dec tues wed fri ave ft mg yr va pa ga ill wash calif fla minn
    tenn conn wis mich ariz colo okla ore kan ala ky ct vt nev
    a.m p.m a.d u.s u.k u.n u.s.a u.s.s.r d.c n.y n.j n.c s.c l.a ph.d m.b.a"""
)

STOP_WORDS = _set(
    """i me my myself we our ours ourselves you your yours yourself yourselves he him his himself
    she her hers herself it its itself they them their theirs themselves what which who whom this
    that these those am is are was were be been being have has had having do does did doing a an
    the and but if or because as until while of at by for with about against between into through
    during before after above below to from up down in out on off over under again further then
    once here there when where why how all any both each few more most other some such no nor not
    only own same so than too very can will just should now s t d ll m o re ve y don ain aren
    couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan shouldn wasn weren won
    wouldn"""
)

PRONOUNS = _set(
    """i me we us you he him she her it they them my mine our ours your yours his hers its their
    theirs myself ourselves yourself yourselves himself herself itself themselves this that these
    those who whom whose which what whoever whomever whatever whichever anybody anyone anything
    everybody everyone everything nobody nothing somebody someone something each either neither
    both all some any none"""
)

_VERBS = _set(
    """accept achieve acknowledge act adapt add adjust adopt allow analyze answer apply approach
    arrange ask assemble assess assume avoid balance be become begin believe break breathe bring
    build buy calculate call capture care carry celebrate change check choose clean click close
    collect combine come compare complete compute conduct confirm connect consider construct
    consult contact continue convert cook cover create cut decide define delve deliver describe
    design determine develop discover discuss divide do download draw dream dive earn eat edit
    embrace empower encourage engage enjoy ensure enter envision establish evaluate examine expand
    expect experience experiment explain explore express extract face feel fill find finish fix
    focus follow force gain gather generate get give go grab grow handle have hear help highlight
    identify ignore imagine implement import improve include increase indulge inform insert install
    integrate introduce invest investigate invite involve join keep know launch lead learn leave
    let leverage list listen locate look maintain make manage measure meet mention mix modify
    monitor move navigate need note notice observe obtain offer open optimize order organize
    participate pay perform picture pick place plan play prepare present press prevent print
    prioritize produce promote protect prove provide purchase pursue put reach read realize
    recall receive recognize recommend reduce refer reflect remain remember remove repeat replace
    report require research respect rest return review rewrite run save say search secure see seek
    select send serve set share show simplify solve speak specify spend split stand start state
    stay step stop store strengthen study submit suggest summarize support suppose take talk
    teach tell test think track train transform translate travel treat try turn understand update
    upgrade use utilize validate verify visit wait walk want watch wear welcome win wish wonder
    work write"""
)
_IRREGULAR = _set(
    """is are was were been am has had does did made found given taken known seen written built got
    went came thought said left kept began held led gone done"""
)
_NOT_ING = _set(
    """nothing something anything everything thing king ring wing sing bring string spring morning
    evening during ceiling sibling sterling"""
)
_NOT_ED = _set("indeed speed seed hundred sacred naked wicked embed kindred breed creed")

_VOWELS = "aeiouy"
_VOWEL_GROUP = re.compile(f"[{_VOWELS}]+")
# Two vowels next to each other that are two syllables.
_HIATUS = re.compile(
    r"(?<![cstgxn])(?<!ll)i[aou]|(?<![tcx])ien[ct]|\Ascience|iet|(?<=[cr])ea(?=t[eio])|rea\Z|oe[mt]"
    r"|eing|eo(?!ple|pard|n\Z|us\Z)|(?<!q)ua(?=l)|thm\Z"
)


def syllables(word: str) -> int:
    """Of a word in lower case; 0 for one without a letter a to z."""
    word = re.sub(r"[^a-z]", "", word)
    if not word:
        return 0
    count = len(_VOWEL_GROUP.findall(word)) + len(_HIATUS.findall(word))
    silent = word.endswith("e") and not re.search(rf"[^{_VOWELS}]le\Z|[{_VOWELS}]e\Z", word)
    silent |= bool(re.search(r"[^aeiouytd]ed\Z|[^aeiouysxzcgh]es\Z", word))
    return max(count - silent, 1)


def is_verb(word: str) -> bool:
    word = word.lower()
    if word in _VERBS or word in _IRREGULAR:
        return True
    if word.endswith("ing"):
        return len(word) > 4 and word not in _NOT_ING
    return word.endswith("ed") and len(word) > 4 and word not in _NOT_ED
