"""What a reader of a report needs beside the numbers: how to read each figure, what words mean, what the model assumes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["FIGURES", "MODEL_ASSUMPTIONS", "PRODUCT_FREE", "FigureWords", "figure_words", "glossary"]


@dataclass(frozen=True)
class FigureWords:
    """A figure's title, and how it is read."""

    title: str
    reading: str


FIGURES: dict[str, FigureWords] = {
    "time_courses": FigureWords(
        "Time courses",
        "Above: the days on which each arm gets a dose. Below: a panel for each quantity, against time. Lines are medians, "
        "shaded areas the 90 % bands that the line under the title names; with many arms, bars at the right of a panel show each arm's "
        "band at the end. UACR and cells have logarithmic axes.",
    ),
    "cells": FigureWords(
        "Cells per organ",
        "Living cells given, per kg of body weight, in each organ on a logarithmic axis, until five weeks after the last dose. Lines are "
        "medians, areas 90 % bands.",
    ),
    "forest": FigureWords(
        "Differences from the reference",
        "A panel for each endpoint, a row for each arm: the mark is the median difference from the reference arm, the line its "
        "90 % band; the vertical line at 0 is no difference. Numbers at the right: P(better).",
    ),
    "dose_frequency": FigureWords(
        "Dose by schedule",
        "Each cell of a panel is one arm: its dose gives the row, its number and interval of doses the column. It shows the "
        "median difference from the reference and, after P, P(better); the colour says better or worse.",
    ),
    "patients": FigureWords(
        "Spread between patients",
        "As the time courses, but the areas show how the virtual patients differ (5 to 95 % of them), not what is unknown.",
    ),
    "attribution": FigureWords(
        "What carries the effect",
        "Left: the share of the arm's effect that each arm of action carries; the shares and the residual sum to the total. "
        "Right: what is lost when that one alone is switched off. Bars are medians, lines 90 % bands.",
    ),
    "indices": FigureWords(
        "Sobol indices",
        "A row for each parameter. Dark bars: the share of the variance of the endpoint that would go if this parameter "
        "alone were known. Pale bars: with its interactions. Lines: 90 % bootstrap intervals, which may leave 0 to 1.",
    ),
    "tornado": FigureWords(
        "One parameter at a time",
        "The endpoint with one parameter at its 5 % (squares) and its 95 % quantile (circles), all others at their medians, which is the "
        "vertical line. The range of the parameter stands at the right.",
    ),
    "shortlist": FigureWords(
        "The regimens that met all draws",
        "A row for each regimen. Diamonds: expected gain over the reference; dots: medians; lines: 90 % bands. The dashed line is the gain "
        "that matters. The columns give the chance of at least that gain, and of being the best of all regimens.",
    ),
    "pareto": FigureWords(
        "Gain against burden",
        "Expected gain against the cells given in all; vertical lines are 90 % bands. The black line joins regimens that no "
        "other beats with less; the star is the recommended one; grey dots met few draws only.",
    ),
    "response_surface": FigureWords(
        "Dose by number by interval",
        "Mean gain over the reference for each product (row of panels), number of doses (column of panels), single dose and interval, "
        "over the few draws of the screen; blank cells are beyond the limits.",
    ),
    "sensitisation": FigureWords(
        "Repetition and sensitisation",
        "What each further dose of a donor's cells adds, and what is lost as the host learns to reject them. Lines: medians; bars: 90 % bands.",
    ),
    "value_of_information": FigureWords(
        "What knowing more is worth",
        "By how much the choice of a regimen would gain on average, were one parameter known (left) or after another study of the size given "
        "(right). Pale: no more than chance gives.",
    ),
    "posterior": FigureWords(
        "What the data say of each parameter",
        "A row for each parameter, in standard deviations of its prior. Grey: the prior's 90 % interval; lines: the posterior's, points its "
        "median. Contraction at the right: how much narrower the data made it.",
    ),
    "hyper_parameters": FigureWords(
        "What the data say of the probability model",
        "As the figure before, for the spreads between studies, subjects and products that the fit estimates along.",
    ),
    "predicted_observed": FigureWords(
        "Published values in their predictive intervals",
        "A row for each published value, in half-widths of its own 90 % predictive interval (grey area; bar: 50 %). Circles lie inside, "
        "crosses outside; the numbers stand at the right.",
    ),
    "pit": FigureWords(
        "Where published values lie in their predictive distributions",
        "Level if predictions are right; a hump says too wide, a bowl too narrow, a slope off to one side. The grey area is what chance "
        "allows 90 % of the time.",
    ),
    "coverage": FigureWords(
        "Shares inside the intervals",
        "By class of endpoint, with the number of rows: the share inside the 50 % (squares) and the 90 % interval (circles), and the range that "
        "so few rows allow. Dashed: where they should lie.",
    ),
    "assurance": FigureWords(
        "Probability of a significant result, by size",
        "The share of virtual trials that come out significant in favour, against patients in the treated arm; bars are Monte-Carlo intervals. "
        "Crosses: trials in which the treatment does nothing.",
    ),
    "effects": FigureWords(
        "What a trial of this size would see",
        "How the estimates of the virtual trials scatter; the darker parts are significant. Black line: the true effects, drawn to a height of "
        "their own.",
    ),
    "facts": FigureWords(
        "Published facts and predictions",
        "A row for each check: how far the prediction lies from the middle of what its source allows, in half-widths (grey area). Points: "
        "prediction at the medians; bars: 90 % of the draws. Circles lie inside, crosses outside.",
    ),
    "verify": FigureWords(
        "Errors as shares of their limits",
        "A row for each check: its error divided by its limit, on a logarithmic axis. Left of the dashed line it passes.",
    ),
}  # fmt: skip


def figure_words(name: str) -> FigureWords:
    """How to read the figure of that file name; of a series the name ends in the figure's, of a continued one in a number.

    >>> figure_words("uc-dn-weekly_forest_2").title
    'Differences from the reference, continued'
    """
    stem = re.sub(r"_\d+$", "", name)
    found = next((words for key, words in FIGURES.items() if stem == key or stem.endswith(f"_{key}")), None)
    if found is None:
        return FigureWords(name.replace("_", " ").capitalize(), "")
    return found if stem == name else FigureWords(f"{found.title}, continued", found.reading)


# What holds of every simulated subject; docs/limits.md says more of each.
MODEL_ASSUMPTIONS = (
    "A virtual patient is a typical one with the covariates given, not a person: the model predicts nobody's course.",
    "Harm is outside of the model but for crowding and vessel block: nothing here says that a regimen is safe.",
    "The step from rodents to people is one factor for all effects of the cells; it is the least certain number of the model, "
    "and trials in people inform it only weakly.",
    "Numbers that no study isolates are assumed, with a reason and a width; a product without data of its own takes what is "
    "known of all products.",
    "eGFR follows creatinine: drugs that move the pressure in the glomerulus move it within weeks without a nephron gained or lost.",
)
PRODUCT_FREE = (
    "posterior",
    "calibrate",
    "verify",
    "scenarios",
)  # commands that simulate no subject of interest


# Term -> (how it is spelt in a report, what it means), in the order in which a reader meets them.
TERMS: dict[str, tuple[str, str]] = {
    "MSC": (r"\bMSC\b", "mesenchymal stromal cells; EV: their vesicles"),
    "arm": (r"\barms?\b", "one of the treatments that are compared, with its regimen: product, dose, days, route"),
    "arm of action": (
        r"\barms? of action\b",
        "one of the six ways in which the model lets cells act, such as immunomodulation",
    ),
    "band": (
        r"\bbands?\b",
        "5 to 95 % of the draws, so that 90 % lie inside; it says what is not known of the biology, unless patients are named",
    ),
    "draw": (
        r"\bdraws?\b",
        "one set of all parameters that the evidence allows; each draw is simulated in every arm",
    ),
    "eGFR": (r"\beGFR\b", "estimated glomerular filtration rate; higher is better"),
    "UACR": (r"\bUACR\b", "urinary albumin-to-creatinine ratio; lower is better"),
    "endpoint": (r"\bendpoints?\b", "what is read of each arm at the horizon, or over the visits if it is a slope"),
    "horizon": (r"\bhorizon\b", "the day at which endpoints are read"),
    "reference": (
        r"\breference\b",
        "the arm with which the others are compared, in the same virtual patient and under the same draw",
    ),
    "Δ": (r"Δ", "difference from the reference arm"),
    "P(better)": (
        r"P\(better\)|\bP \d",
        "share of the draws in which an arm does better than the reference, ties counting half. The model hardly allows for harm: a "
        "value near 1 is no evidence of benefit",
    ),
    "prior": (r"\bpriors?\b", "what was assumed of a parameter before the model was fitted to studies"),
    "posterior": (r"\bposterior\b", "what is known of it after; where no study speaks of it, still the prior"),
    "class prior": (r"\bclass priors?\b", "what is assumed of a product that has no data of its own: the spread of all"),
    "virtual patient": (r"\bvirtual patients?\b", "a set of covariates from which the model is started"),
    "Shapley value": (
        r"\bShapley\b",
        "what a part contributes on joining the others, averaged over all orders of joining",
    ),
    "Sobol index": (r"\bSobol\b", "share of the variance of a result that a parameter makes"),
    "assurance": (
        r"\b[Aa]ssurance\b",
        "probability that a trial comes out significant in favour, what is unknown of the true effect averaged over",
    ),
    "power": (r"\b[Pp]ower\b", "the same probability for one given true effect"),
    "type I error": (r"\b[Tt]ype I error\b", "probability of a significant result where the treatment does nothing"),
    "estimand": (r"\b[Ee]stimand\b", "what exactly the trial is to estimate: in whom, of what, under which conditions"),
    "world": (r"\bworlds?\b", "one draw of all parameters, in which one virtual trial takes place"),
    "Monte-Carlo error": (r"\bMonte-Carlo\b", "what the limited number of simulated trials leaves uncertain"),
    "expected gain": (r"\b[Ee]xpected gain\b", "mean over the draws of the difference from the reference"),
    "front": (r"\bfront\b", "regimens than which none gains as much with less burden and fewer visits"),
    "sensitisation": (r"\b[Ss]ensitisation\b", "the host's learning to reject a donor's cells, 0 to 1"),
    "value of information": (
        r"\b[Ww]hat knowing more is worth\b",
        "what choosing after knowing something would gain on average, against choosing now",
    ),
    "predictive interval": (r"\bpredictive\b", "where the model expects the published value of a study that it has not seen"),
    "z": (r"\bz\b", "distance of a published value from its prediction, in standard deviations of the prediction"),
    "log predictive density": (
        r"\b[Ll]og predictive density\b",
        "how probable the published values were to the model, in logarithms; differences of a few units are weak",
    ),
    "contraction": (r"\b[Cc]ontraction\b|Narrowed by", "by how much the data narrowed a parameter, 0 to 100 %; below 0 is sampling noise or widening"),
    "R-hat, effective sample size": (
        r"\bR-hat\b",
        "whether the chains of the sampler agree (near 1) and how many independent draws they are worth",
    ),
    "Pareto k": (r"\bPareto k\b", "how far single draws dominate the weighing of the sample; below 0.7 is usable"),
    "tolerance": (r"\btolerance\b", "the range around a published number that counts as reproduced"),
}  # fmt: skip


def glossary(texts: Iterable[str], products: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The terms that occur in `texts`, with their meanings; and what the product names stand for."""
    whole = "\n".join(texts)
    found = [(term, said) for term, (spelt, said) in TERMS.items() if re.search(spelt, whole)]
    return found + [(name, said) for name, said in _products(products)]


def _products(names: Sequence[str]) -> list[tuple[str, str]]:
    from mscrenal.model import PRODUCTS

    return [(name, PRODUCTS[name].title) for name in names if name in PRODUCTS]
