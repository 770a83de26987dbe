"""Mistakes in micro-batches and pipelines."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "cluster/pipeline/stage.py",
        "each.micro % (self._slots if each.way == FORWARD else 2)",
        "each.micro % (self._slots if each.way == FORWARD else 1)",
        "a gradient arrives where the last one is still being sent from",
        "pipeline",
        "written_over",
    ),
    Mutation(
        "cluster/pipeline/stage.py",
        "self.part.forward(number % self._slots, x, self.done, micro.first)",
        "self.part.forward(number % self._slots, x, self.done, 0)",
        "dropout drops the same in every micro-batch",
        "pipeline",
    ),
    Mutation(
        "cluster/pipeline/stage.py",
        "            except BaseException as error:\n                self._broken = error\n",
        "            except BaseException:\n                raise\n",
        "a rank that fails leaves its neighbours waiting",
        "pipeline",
        "fails_ends",
    ),
    Mutation(
        "cluster/pipeline/stage.py",
        "owner[order.batch(step, replica)] = replica * self._count",
        "owner[order.batch(step, replica)] = replica",
        "images go to ranks that do not have a first stage",
        "pipeline",
        "replicas_goes_on",
    ),
    Mutation(
        "cluster/pipeline/schedule.py",
        "min(stages - 1 - stage, micro)",
        "min(stages - 2 - stage, micro)",
        "a stage waits for a gradient before its neighbour has the micro-batch",
        "pipeline_schedule",
    ),
    Mutation(
        "cluster/pipeline/clipping.py",
        "    if begun:\n        sums.append(sum_of_squares(np.concatenate(begun)))\n",
        "",
        "numbers after the last whole block do not count in the norm",
        "pipeline",
        "norm",
    ),
    Mutation(
        "cluster/pipeline/transfer.py",
        'running = state["buffers"][replica] if "buffers" in state else model.flat_buffers',
        'running = state["buffers"][0] if "buffers" in state else model.flat_buffers',
        "replicas go on with the first one's running statistics",
        "pipeline",
        "replicas_goes_on",
    ),
    Mutation(
        "parallel/micro.py",
        "Micro(share, first, last - first, (last - first) / whole)",
        "Micro(share, first, last - first, 1 / self.parts)",
        "unequal micro-batches count alike",
        "pipeline",
        "what_they_say",
    ),
    Mutation(
        "loop/pipelines.py",
        'return {"pipeline": None if stages is None else [stages.count, stages.cut, stages.schedule]}',
        "return {}",
        "ranks cut a network differently",
        "pipeline",
        "one_rank",
    ),
]
