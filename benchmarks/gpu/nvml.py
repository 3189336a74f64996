"""GPU utilization as production monitors see it: NVIDIA's management library, read by ctypes."""

from __future__ import annotations

import ctypes
import statistics
import threading
import time

#: the driver averages over about this long, so older samples belong to the load before
SETTLE_S = 0.4
_PERIOD_S = 0.05


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Nvml:
    """One GPU's utilization counter."""

    def __init__(self, uuid: str) -> None:
        """Open the counter.

        Args:
            uuid: as the driver writes it: GPU-...

        Raises:
            OSError: there is no NVIDIA driver, or it does not know this GPU.
        """
        self._library = ctypes.CDLL("libnvidia-ml.so.1")
        self._device = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._device))

    def utilization(self) -> float:
        """Return the share of the driver's last window with a kernel running, 0-1."""
        read = _Utilization()
        self._call("nvmlDeviceGetUtilizationRates", self._device, ctypes.byref(read))
        return float(read.gpu) / 100

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise OSError(f"{name} returned {code}")


class Watch:
    """Samples utilization while a `with` block runs."""

    def __init__(self, nvml: Nvml) -> None:
        """Say whose utilization is sampled."""
        self._nvml = nvml
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._seen: list[tuple[float, float]] = []
        self._start = 0.0

    def __enter__(self) -> Watch:
        """Start sampling."""
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    @property
    def utilization(self) -> float | None:
        """Return the median once the counter had settled; None = the block was too short."""
        settled = [share for at, share in self._seen if at - self._start >= SETTLE_S]
        return statistics.median(settled) if settled else None

    def _sample(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            try:
                self._seen.append((time.perf_counter(), self._nvml.utilization()))
            except OSError:
                # A reading that fails is no reading; the others still count.
                continue
