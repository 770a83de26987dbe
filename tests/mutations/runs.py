"""Mistakes in checkpoints, runs and the cost model."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "checkpoint.py",
        'if content.pop("checksum", None) != _checksum(tensors, content) or "parameters" not in tensors:',
        'if content.pop("checksum", None) is None or "parameters" not in tensors:',
        "a damaged checkpoint is taken",
        "checkpoint damaged_files",
    ),
    Mutation(
        "checkpoint.py",
        "            value[...] = self.buffers[name]",
        "            value[...] = value",
        "running statistics are not restored",
        "checkpoint loop",
    ),
    Mutation(
        "checkpoint.py",
        "if self.fingerprint != fingerprint(model):",
        "if len(self.fingerprint) != len(fingerprint(model)):",
        "another network's checkpoint is taken",
        "checkpoint",
    ),
    Mutation(
        "checkpoint.py",
        "            model.normalization, model.input_range = before\n",
        "",
        "a checkpoint that does not fit leaves half of itself in the model",
        "checkpoint",
        "leaves_nothing_of",
    ),
    Mutation(
        "loop/training.py",
        "position.loss_sum += report.loss * report.images",
        "position.loss_sum += report.loss",
        "an epoch's loss is that of steps over images",
        "loop",
        "means_over",
    ),
    Mutation(
        "loop/stopping.py",
        "len(history) - 1 - best >= self.epochs",
        "len(history) - best >= self.epochs",
        "a run stops an epoch too early",
        "training_stops",
        "best",
    ),
    Mutation(
        "loop/evaluation.py",
        "merged[name] = max(merged[name], value)",
        "merged[name] = merged[name] + value",
        "largest staleness adds up",
        "loop_progress loop",
        "two_stretches",
    ),
    Mutation(
        "loop/weights.py",
        "return np.divide(len(labels), present.sum() * counts,",
        "return np.divide(len(labels), classes * counts,",
        "balanced weights count classes that do not occur",
        "training_weights",
        "balanced",
    ),
    Mutation(
        "loop/recipe.py",
        "larger = share**0.5",
        "larger = share",
        "the learning rate of small batches is too small",
        "recipe",
        "moves or follows or 64",
    ),
    Mutation(
        "loop/folder.py",
        "MODEL, BEST, LOG,",
        "MODEL, LOG,",
        "a run writes over somebody's best.safetensors",
        "run_folder loop commands",
        "place_of_the_runs or written_over",
    ),
    Mutation(
        "costmodel/equations.py",
        "return 2 * math.ceil(math.log2(workers)) * (t_s + t_b * parameter_bytes)",
        "return 2 * math.log2(workers) * (t_s + t_b * parameter_bytes)",
        "rounds of messages are no whole number",
        "costmodel",
        "averaging",
    ),
    Mutation(
        "costmodel/equations.py",
        "return p / (1 + p * (2 * t_s + t_b * s * n * (m - 1))",
        "return p / (1 + p * (t_s + t_b * s * n * (m - 1))",
        "a message's start is counted once, not in both directions",
        "costmodel",
        "equation",
    ),
    Mutation(
        "costmodel/rules.py",
        "return 2 * self.copy_s",
        "return self.copy_s",
        "keeping old values costs half",
        "costmodel",
        "scripts_cost",
    ),
]
