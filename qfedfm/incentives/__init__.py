"""Incentives: what clients contribute, what they are paid, and who is chosen."""

from .auction import Award, affordable, budgeted, vcg
from .coalitions import round_game
from .contract import Menu, menu
from .contribution import Contribution, contributions
from .free_riders import FreeRiderScreen, Screening, screen
from .game import Game, Valuation, Values, weighted_voting
from .gtg import Gtg
from .influence import Influence
from .leave_one_out import LeaveOneOut
from .monte_carlo import MonteCarlo
from .quantum_shapley import QuantumShapley, sampling_calls
from .reputation import Reputation
from .shapley import Shapley, shapley_values
from .winner_determination import Hiring, Market, Qubo, optimum, qubo, solve_qubo

__all__ = [
    "Award",
    "Contribution",
    "FreeRiderScreen",
    "Game",
    "Gtg",
    "Hiring",
    "Influence",
    "LeaveOneOut",
    "Market",
    "Menu",
    "MonteCarlo",
    "QuantumShapley",
    "Qubo",
    "Reputation",
    "Screening",
    "Shapley",
    "Valuation",
    "Values",
    "affordable",
    "budgeted",
    "contributions",
    "menu",
    "optimum",
    "qubo",
    "round_game",
    "sampling_calls",
    "screen",
    "shapley_values",
    "solve_qubo",
    "vcg",
    "weighted_voting",
]
