"""Oxidative stress: ROS, Nrf2 and mitochondrial function in the kidney."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogitNormal, Parameter, Process, Source, State
from mscrenal.model.functions import inhibited, stimulated
from mscrenal.model.processes.shorthand import gain, half, loss, rate_constant, synthesis

MODULE = "oxidative stress"

STATES = (
    State("ros", "1", "reactive oxygen species", MODULE, symbol="O"),
    State("nrf2", "1", "Nrf2 activity and its antioxidant enzymes", MODULE, symbol="N_2"),
    State("mitochondria", "1", "mitochondrial function", MODULE, symbol="Z"),
)

ROS_TURNOVER = rate_constant(
    "ros_turnover", 4.0, 0.5, "turnover of the oxidant tone", Assumed("hours; only its being fast matters")
)
ROS_GLUCOSE = gain("ros_glucose", 8.0, "ROS by glucose")
GLUCOSE_HALF = half("glucose_half", 3.0, "glucose with half of its effect on ROS and MCP-1")
ROS_AGE = gain("ros_age", 3.0, "ROS by AGE and their receptor")
AGE_HALF = half("age_half", 3.0, "AGE with half of their effect")
ROS_MACROPHAGE = gain("ros_m1", 5.0, "ROS by M1 macrophages")
M1_HALF = half("m1_half", 4.0, "M1 macrophages with half of their effect")
ROS_MITOCHONDRIA = gain("ros_mitochondria", 4.0, "ROS by failing mitochondria")
FAILURE_HALF = half("failure_half", 3.0, "reciprocal of mitochondrial function with half of its effect")
SCAVENGING_NRF2 = gain("scavenging_nrf2", 3.0, "scavenging by Nrf2's enzymes")
NRF2_HALF = half("nrf2_half", 3.0, "Nrf2 with half of its effect")
NRF2_TURNOVER = rate_constant(
    "nrf2_turnover",
    1.0,
    0.5,
    "change of the antioxidant enzymes that Nrf2 drives (the protein itself turns over in minutes)",
    Source("nrf2halflife", "7 to 100 min for the protein; enzymes taken as a day"),
)
NRF2_ROS = gain("nrf2_ros", 6.0, "Nrf2 activation by ROS")
ROS_HALF = half("ros_half", 3.0, "ROS with half of their effects")
MITOCHONDRIA_TURNOVER = rate_constant(
    "mitochondria_turnover",
    0.07,
    0.4,
    "renewal of mitochondria",
    Assumed("half-life of mitochondrial protein of about 10 d"),
)
MITOCHONDRIA_ROS = Parameter(
    "mitochondria_ros",
    0.6,
    "1",
    "largest fall of mitochondrial renewal by ROS",
    Assumed("partial: cells keep energy in disease"),
    LogitNormal(0.6),
)

PROCESSES = (
    synthesis(
        "ros",
        lambda ros_turnover, glucose, ros_glucose, glucose_half, age_products, ros_age, age_half, m1, ros_m1, m1_half, mitochondria, ros_mitochondria, failure_half: (
            ros_turnover
            * stimulated(glucose, ros_glucose, glucose_half)
            * stimulated(age_products, ros_age, age_half)
            * stimulated(m1, ros_m1, m1_half)
            * stimulated(1 / mitochondria, ros_mitochondria, failure_half)
        ),
        "formation of ROS",
        (
            ROS_GLUCOSE,
            GLUCOSE_HALF,
            ROS_AGE,
            AGE_HALF,
            ROS_MACROPHAGE,
            M1_HALF,
            ROS_MITOCHONDRIA,
            FAILURE_HALF,
        ),
        MODULE,
    ),
    Process(
        "ros_scavenging",
        {"ros": -1},
        lambda ros_turnover, ros, nrf2, scavenging_nrf2, nrf2_half: (
            ros_turnover * ros * stimulated(nrf2, scavenging_nrf2, nrf2_half)
        ),
        "1/day",
        "scavenging",
        (ROS_TURNOVER, SCAVENGING_NRF2, NRF2_HALF),
        MODULE,
    ),
    synthesis(
        "nrf2",
        lambda nrf2_turnover, ros, nrf2_ros, ros_half: nrf2_turnover * stimulated(ros, nrf2_ros, ros_half),
        "induction of Nrf2's enzymes",
        (NRF2_ROS, ROS_HALF),
        MODULE,
    ),
    loss("nrf2", NRF2_TURNOVER, MODULE),
    synthesis(
        "mitochondria",
        lambda mitochondria_turnover, ros, mitochondria_ros, ros_half: (
            mitochondria_turnover * inhibited(ros, mitochondria_ros, ros_half)
        ),
        "renewal of mitochondria",
        (MITOCHONDRIA_ROS,),
        MODULE,
    ),
    loss("mitochondria", MITOCHONDRIA_TURNOVER, MODULE),
)
