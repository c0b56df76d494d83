"""Boards that warm up while they work and slow down when they are hot: an optional model of first order.

A board's temperature above its surroundings moves towards ``rise_k_per_w`` times what it draws, with one time constant
(Newton's law of cooling). A computation that brings it to the limit goes on at ``throttled_speed_fraction`` of its
speed, and the temperature stays there; what the board draws is taken not to change, so the energy of throttled time is
an upper bound. No source gives these figures for the boards; a cluster that states them says where it has them from.
"""

import math

from device_profiles.records import Thermal


class Heat:
    """The temperatures of all boards, in kelvin above their surroundings; all begin cold."""

    def __init__(self, thermal: Thermal, n_devices: int) -> None:
        self._thermal = thermal
        self._excess_k = [0.0] * n_devices

    def throttled_s(self, device_id: int, watts: float, duration_s: float) -> float:
        """How long work of ``duration_s`` at full speed takes on a board as warm as it is now."""
        thermal = self._thermal
        start_k, limit_k, final_k = self._excess_k[device_id], thermal.limit_k, thermal.rise_k_per_w * watts
        if final_k <= limit_k:
            return duration_s
        # final - (final - start) exp(-t / tau) = limit
        full_speed_s = thermal.time_constant_s * math.log((final_k - min(start_k, limit_k)) / (final_k - limit_k))
        if duration_s <= full_speed_s:
            return duration_s
        return full_speed_s + (duration_s - full_speed_s) / thermal.throttled_speed_fraction

    def advance(self, device_id: int, watts: float, duration_s: float) -> None:
        """The board draws ``watts`` for so long."""
        thermal = self._thermal
        final_k = thermal.rise_k_per_w * watts
        share = math.exp(-duration_s / thermal.time_constant_s)
        self._excess_k[device_id] = min(final_k + (self._excess_k[device_id] - final_k) * share, thermal.limit_k)
