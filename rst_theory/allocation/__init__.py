"""Which schedule to use: the best probabilities under a budget, and the least cost of an accuracy.

Symbol key, throughout the room: T steps; at step t the probability p, step size eta, radius rho, mixing
coefficient gamma; q = p gamma the degree of regularization, held fixed while p is chosen, so that
gamma = q/p; L, mu, sigma the constants of the problem; a = eta (1 - L eta/2).
"""

from rst_theory.allocation.budget import Goal, allocate, trial_weights, water_filling
from rst_theory.allocation.pairs import Plan, least_pairs

__all__ = ["Goal", "Plan", "allocate", "least_pairs", "trial_weights", "water_filling"]
