"""The lessons in words: title, what one will see, questions with hints, and answers.

Numbers of the answers are never typed: ``{name}`` stands for what `mscrenal.app.page.lesson_findings` computes with the
posterior of the day, at the settings with which the lesson opens. What the words around them claim (more, less, outlives,
hardly) is proved by ``tests/test_page_lessons.py``, claim by claim: who changes a sentence changes its test.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GLOSSARY", "LESSONS", "Lesson", "Question"]


@dataclass(frozen=True)
class Question:
    """A question, what to move to answer it, and the answer: found, from data, assumed, and in reality."""

    ask: str
    hint: str
    answer: str
    data: str
    assumed: str
    reality: str


@dataclass(frozen=True)
class Lesson:
    """One guided experiment; `key` names its experiment."""

    key: str
    title: str
    sees: str
    experiment: str
    questions: tuple[Question, ...]


GLOSSARY = (
    (
        "MSC",
        "Mesenchymal stromal cells: cells of bone marrow, fat or umbilical cord that calm inflammation. UC: from umbilical cord.",
    ),
    (
        "eGFR",
        "Estimated glomerular filtration rate, mL/min/1.73 m²: how much blood the kidneys clean. Healthy young adults have about 100.",
    ),
    (
        "UACR",
        "Urinary albumin-to-creatinine ratio, mg/g: protein that a leaky filter lets through. Below 30 is normal.",
    ),
    (
        "Untreated twin",
        "The same virtual patient without cells. Effects are differences from the twin, so that nothing else differs.",
    ),
    (
        "Draw",
        "One full set of the model's parameters that the published studies allow. Many draws together are the posterior.",
    ),
    (
        "90 % band",
        "Where 90 of 100 draws lie: what is not known of the biology. It does not say how patients differ.",
    ),
    (
        "Arm of action",
        "One of the six ways in which cells act, such as calming inflammation or slowing scarring.",
    ),
    (
        "Translation factor",
        "How strongly a dose per kg acts in people, relative to rodents: 1 is as strongly, 0 not at all.",
    ),
)

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        "memory",
        "Why the effect outlives the cells",
        "The infused cells are gone within days or weeks, while what they did to the kidney takes months to fade.",
        "A patient with diabetic kidney disease gets one infusion of a million umbilical-cord cells per kg on day 0. First plot: "
        "living cells in each organ, and white blood cells of the patient that took up dying MSC and were changed by it "
        "(reprogrammed phagocytes, counted as cells taken up). Second plot: the effect. Choose what is read, and what these "
        "phagocytes remember.",
        (
            Question(
                "How long do the cells live, and how long does the effect on UACR last?",
                "Leave the memory as estimated. Compare the day on which the curves of the organs reach the bottom with the "
                "time at which the effect is back to half of its largest.",
                "Of the living cells 99 % are gone on day {gone} (median and, in brackets, the 90 % band). The effect on UACR is "
                "largest on day {peak_day}, at {peak} %, and back to half of that on day {half}.",
                "That infused cells are trapped in the lungs and gone within days was measured with labelled cells in animals. "
                "That markers stay changed for weeks was seen in treated animals and a few trials.",
                "The bridge between the two: phagocytes that keep the effect of cells they took up. How strong and how long-lived "
                "this memory is was hardly narrowed by the data.",
                "Few trials measure often enough to see when an effect fades. Band and median say what the evidence allows, not "
                "what one patient would show.",
            ),
            Question(
                "Who carries the effect once the cells are gone?",
                "Switch the memory of the phagocytes off and look at the size of the effect, then give it a half-life of a week or "
                "of a quarter.",
                "In the model mostly the phagocytes. Without their memory the largest effect on UACR is {off_share} % of that with "
                "it. With a half-life of a week the effect is back to half on day {half_week}, with one of a quarter on day "
                "{half_quarter}.",
                "Phagocytes that took up MSC are changed by it, and this uptake alone carries part of the effect in animals.",
                "That all of the lasting effect goes through one such store. In the model you switch off that store alone; in an "
                "animal you cannot.",
                "Other carriers are possible and are not in the model as stores of their own: regulatory T cells, vesicles that "
                "linger, lasting changes of the tissue's own cells.",
            ),
            Question(
                "Even without memory the effect on UACR outlives the cells. Does that on IL-6, a messenger of inflammation in the "
                "blood?",
                "Keep the memory off and change what is read from UACR to IL-6.",
                "Without memory the effect on UACR is back to half on day {half_off}, that on IL-6 already on day {il6_half_off}. UACR "
                "follows the filter's cells (podocytes), which recover slowly: the kidney has an inertia of its own, a messenger "
                "in the blood has next to none.",
                "IL-6 is cleared from blood within hours, and UACR follows treatments over weeks: both are measured.",
                "The pace at which podocytes recover.",
                "An effect of {off_peak} %, as it is left without memory, could not be seen in any trial: UACR of one person varies "
                "by about a third from visit to visit.",
            ),
        ),
    ),
    Lesson(
        "translation",
        "Why rodents respond more",
        "The same dose per kg does much in a diabetic rat and little in a patient; one number carries most of the difference.",
        "A rat with streptozotocin diabetes (eight weeks after its pancreas was damaged) and a patient with diabetic kidney "
        "disease get one infusion of umbilical-cord cells, the same number per kg. First plot: the effect in both. Second: what is "
        "known of the translation factor. Choose the dose, what is read, and fix the factor if you like.",
        (
            Question(
                "How much larger is the effect in the rat?",
                "Leave factor and dose as they are; compare the lowest points of both curves.",
                "UACR changes by at most {rat} % in the rat and {patient} % in the patient. Draw by draw the patient's effect is "
                "{ratio} % of the rat's.",
                "Effects in rodents come from many small controlled experiments; those in people from a few trials.",
                "That published animal experiments are not only the lucky ones. The calibration estimates and takes out that "
                "small studies show larger effects, but cannot know what was never published.",
                "A rat is given its diabetes within days, all animals of a strain are alike, and they are treated early. Patients "
                "are none of this.",
            ),
            Question(
                "Is the factor known? What did the trials add?",
                "Look at the second plot: the line is what was assumed before the trials, the bars what is left after them.",
                "Before the trials anything from none to all was allowed, with a median of {prior}. Afterwards the median is {factor}. "
                "So the trials moved it down, but the band is still wide: between its ends the factor differs {spread}-fold.",
                "The move: trials in people showed less than animals did.",
                "That one factor does for all effects and all products, and that it cannot be below zero: cells that harm are "
                "excluded by assumption.",
                "It may differ between products, diseases and endpoints. Nobody has measured it.",
            ),
            Question(
                "If the factor were 1, would the patient respond like the rat?",
                "Set the factor to 1 and compare again; then read the fibrosis area.",
                "Nearly, in UACR: the patient's largest effect is then {one_ratio} % of the rat's (fibrosis area: {one_fibrosis} %). What "
                "remains of the difference is the disease: it is older, slower and treated with other drugs, and scar takes "
                "longer to build and to lose in people.",
                "Human and rodent courses of disease without cells are fitted to published courses.",
                "That processes of the host run slower by body weight, all alike.",
                "The model's rat is a textbook rat; real experiments differ more from each other than the band says.",
            ),
            Question(
                "Would ten times the dose make up for it?",
                "Set the factor back to estimated and the dose to 10.",
                "Partly: with ten million cells per kg the patient's UACR changes by at most {ten} %, {ten_ratio} % of what one million "
                "did in the rat.",
                "No trial that was read went beyond about 4 million per kg: this is extrapolated.",
                "The factor multiplies the activity of cells, so that ten times the dose offsets a tenth, until lungs crowded by "
                "cells take from the effect.",
                "Trials do not show more effect with more cells: their order of doses is not monotone. And risk grows with dose, "
                "of which the model says nothing.",
            ),
        ),
    ),
    Lesson(
        "schedule",
        "Dose or frequency",
        "How many cells are given in all matters; into how many infusions they are divided hardly does, but for when one looks.",
        "A patient with diabetic kidney disease gets a total of umbilical-cord cells in one, three or six infusions. First plot: the "
        "effect on UACR. Second: in how many draws each schedule does best. Choose the total and the days between infusions.",
        (
            Question(
                "Which schedule is best for eGFR at week 48?",
                "Leave total and interval; look at the bars, then at the table below them for how large the differences are.",
                "Six infusions win in {win_egfr6} % of draws and one in {win_egfr1} %: but the effect of six is {egfr6} times that of one, and "
                "that one is {egfr1} mL/min/1.73 m². There is hardly any difference.",
                "No trial that was read compared schedules of the same total.",
                "Nearly all: how the effect saturates, how long phagocytes remember, how lungs crowd.",
                "Infusions may fail, patients may miss them, and repeated foreign cells may be rejected sooner than the model "
                "thinks.",
            ),
            Question(
                "And for UACR? Does the answer depend on how it is read?",
                "Compare the bars of 'UACR, week 48' with those of 'UACR, mean of 48 weeks'.",
                "It turns round. At week 48 six infusions win in {win_end6} % of draws, because the last of them was given latest; over "
                "all 48 weeks one infusion wins in {win_mean1} %, because its effect began in full on the first day. An endpoint at "
                "one visit rewards whoever was treated last.",
                "Little: few trials looked late enough, or often enough, to see an effect fade.",
                "The pace of fading.",
                "A trial should compare schedules at the same time after the last dose, or over the whole time.",
            ),
            Question(
                "What does more: dividing the cells, or giving twice as many?",
                "Double the total and see the curves move; then go back and change the interval.",
                "Twice the total at once has {twice} times the effect on mean UACR; the same total in six has {split} times that of one. "
                "The number of cells matters more, though less than in proportion.",
                "The clinical data support no order of doses: in trials more cells did not do more.",
                "The model is monotone in dose until lungs are crowded, whatever the trials did. This answer is an assumption seen "
                "at work.",
                "If something limits the effect that the model does not know, more cells may do nothing.",
            ),
        ),
    ),
    Lesson(
        "arms",
        "What each arm of action does",
        "Each endpoint leans on other arms of action, and what six knock-outs take away does not add up to the whole.",
        "Umbilical-cord cells, a million per kg in each of three weekly infusions; read at week 24. The bars: how much of the "
        "effect is lost when one arm is switched off (knock-out), or how much there is when it alone is left. The dots: all six "
        "bars of a draw added, over the whole effect. Choose what is read, the kind of experiment, and how strongly cells act.",
        (
            Question(
                "Which arm carries most of the effect on IL-6, which of that on the scarred (fibrosis) area?",
                "Choose IL-6, then fibrosis area, and look for the longest bar.",
                "IL-6: immunomodulation is first in {first_il6} % of draws and carries {il6_immuno} % of the effect. Fibrosis area: the "
                "antifibrotic arm, first in {first_fibrosis} % of draws, {fibrosis_anti} %.",
                "That cells act in each of these ways was shown in animals and cell cultures, one mechanism at a time.",
                "The strength of single arrows of the network. No study in people switches an arm off.",
                "Arms are not that separate: the same vesicle carries what acts in several of them.",
            ),
            Question(
                "And eGFR?",
                "Choose eGFR. Is there a longest bar, if you look at the bands?",
                "No. Cytoprotection ({egfr_cyto} %), angiogenesis ({egfr_angio} %) and immunomodulation ({egfr_immuno} %) carry similar "
                "shares, each with a wide band, and whichever is first most often is so in only {first_egfr} % of draws. eGFR "
                "is downstream of everything.",
                "Next to nothing: no trial links a mechanism to eGFR.",
                "All of the shares; the bands say how little is known.",
                "A product made to strengthen one arm would be a better test than any model.",
            ),
            Question(
                "Add up what the six knock-outs take from the effect on UACR. Is it the whole effect?",
                "Look at the dots of the second plot: 100 % would be additive. Then set how strongly cells act to 'as in rodents', and "
                "change 'switched off' into 'left alone'.",
                "In the patient nearly: {sum_off} % for knock-outs, {sum_alone} % for arms left alone. Effects there are small, and small "
                "effects add. If cells acted as in rodents: {sum_off_one} % and {sum_alone_one} %. Arms work on the same chain, so that "
                "when one is missing the others do part of its work; and what is mended once cannot be mended twice.",
                "In animals one blocked pathway is often reported to take most of the effect away; if several do, their shares cannot "
                "add up.",
                "The saturation: each arm's effect lies between 0 and 1.",
                "A knock-out in an animal is rarely clean. To share an effect out fairly one averages over all orders of switching "
                "off (Shapley values): the command mscrenal explain.",
            ),
        ),
    ),
    Lesson(
        "trial",
        "Why 38 patients are few",
        "One trial of 19 + 19 is drawn again and again: its answer is mostly chance, and when it is significant it exaggerates.",
        "Umbilical-cord cells, three weekly infusions, against placebo; read at week 48. First plot: forty trials, each with its 95 % "
        "interval; filled: significant in favour of cells (p below 5 %). Second: how wide such an interval is, by size. Choose "
        "what is tested and how many patients each arm has, and let chance draw again.",
        (
            Question(
                "How often is a trial of 19 + 19 significant in favour of the cells?",
                "Press 'Draw again' a few times and count filled dots; the line under the plot has the long run.",
                "In {hits} % of trials on eGFR. In {wrong} % the cells look significantly harmful, though in this model they help in "
                "every world. By chance alone 2.5 % would be significant on either side: the trial hardly tells help from "
                "nothing.",
                "How much eGFR varies between visits and patients was measured in large trials.",
                "That the true effect is what the model's posterior allows: {truth} mL/min/1.73 m².",
                "A real trial has problems of its own: drop-outs related to the course, changed drugs, centres that differ.",
            ),
            Question(
                "Look at the significant trials alone. What do they say of the size of the effect?",
                "Compare the filled dots with the true effects (short dark lines).",
                "On average they find {exaggeration} times the true effect: an estimate must be about {least} mL/min/1.73 m² to be significant, "
                "and the truth is far smaller. Such trials are published and remembered (the winner's curse).",
                "The arithmetic is the same for any small trial of a small effect.",
                "How small the effect is.",
                "If the true effect is much larger than the model thinks, the exaggeration is smaller.",
            ),
            Question(
                "How many patients would make the interval as narrow as the effect?",
                "Move the slider of patients and follow the point on the second plot to the shaded band of the true effect.",
                "With 19 in each arm the estimate is uncertain by {width} mL/min/1.73 m² on either side, with 38 by {width_double}: to "
                "halve it takes four times the patients. To bring it down to the median true effect takes {needed} patients in each arm.",
                "The variation of eGFR.",
                "That more patients are like those before.",
                "Nobody will run such a trial for eGFR at week 48. Longer follow-up, more visits or a marker that varies less help "
                "more than patients.",
            ),
            Question(
                "Is UACR a better endpoint for a small trial?",
                "Change what is tested to UACR.",
                "Somewhat: {hits_uacr} % of trials are significant in favour, against {hits} % on eGFR. It is still few.",
                "UACR varies more, but responds more and sooner.",
                "Its effect at week 48 is what is left after most has faded.",
                "What a fall of UACR is worth in the end is lesson 6.",
            ),
        ),
    ),
    Lesson(
        "early",
        "What early UACR tells about late eGFR",
        "A larger early fall of UACR goes with more eGFR years later, but how closely depends on what varies: knowledge or people.",
        "Umbilical-cord cells, three weekly infusions. Each dot of the first plot is one draw: the same typical patient in a world that "
        "may be true. Each dot of the second is one of 200 different virtual patients, all in the same world (the posterior's "
        "medians). Choose when UACR and eGFR are read, and against what: the untreated twin (which only a model has) or the "
        "patient's own first day (which a clinic has).",
        (
            Question(
                "Across draws: does an early fall of UACR tell the late gain of eGFR?",
                "First plot, against the untreated twin.",
                "Very closely: the rank correlation is {rho_draws}. Worlds in which cells act strongly show it early and late.",
                "None: no trial of cells followed patients for three years with enough patients to see it.",
                "That the same few numbers (the translation factor above all) scale every effect. The correlation is built from "
                "that, not found in patients.",
                "A drug may lower UACR by another way than it protects the kidney: haemodynamic drugs do so within weeks.",
            ),
            Question(
                "And across patients in one world?",
                "Second plot, still against the twin.",
                "Less: {rho_patients}. Patients differ in kidney function, in albuminuria and in how they respond, and each of these acts "
                "on one marker more than on the other.",
                "Spreads of age, eGFR, UACR and progression come from trials.",
                "How much people differ in their response to cells.",
                "True differences between patients are probably larger, and the correlation weaker.",
            ),
            Question(
                "A clinic has no twin. What does it see?",
                "Set 'against' to the patient's own first day. Grey circles are the same patients without cells.",
                "Treated patients whose UACR fell keep more eGFR: {rho_seen}. But so do untreated ones: {rho_untreated}. What the clinic sees is "
                "mostly who was going to do well anyway; it says next to nothing of the cells.",
                "That a lower UACR goes with slower loss of eGFR is among the best-established findings in nephrology.",
                "The spread of natural courses in the virtual patients.",
                "Errors of measurement, left out here, blur it further. Only a comparison with a randomised control shows an effect "
                "of treatment.",
            ),
            Question(
                "How much eGFR does the early fall buy?",
                "Against the twin again; read off both axes, and change the year.",
                "Little: a change of UACR by {uacr} % at week 24 goes with {egfr} mL/min/1.73 m² at year 3, in a patient who loses {loss} without cells. "
                "At year 1 it is {egfr_one}: what was gained is partly lost again, as one course of cells wears off.",
                "Three years are longer than nearly all trials of cells: this is extrapolated.",
                "That lost nephrons (the kidney's filtering units) do not come back.",
                "Repeated courses are another question, which Explore can show.",
            ),
        ),
    ),
)
