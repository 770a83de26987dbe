"""Write the samples of PyTorch's two exporters into a folder.

Run as `python make_torch.py FOLDER` with torch 2.13.0, onnxscript 0.7.2, onnx 1.23.2. The tests read the files that lie
beside this script, so that they need neither.
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

OUT = Path(sys.argv[1])


class Small(nn.Module):
    """A network with normalisation, strides, dilation, groups, and pools that round up or count the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU6(),
            nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6), nn.LeakyReLU(0.1),
            nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), nn.Conv2d(6, 8, (3, 2)), nn.Tanh(),
            nn.AvgPool2d(2, 1, padding=1), nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.4), nn.Linear(72, 12), nn.Sigmoid(), nn.Linear(12, 5))
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features((x - self.mean) / self.std), 1))


class View(nn.Module):
    """A network with a reshape for batches of any size, and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv2d(1, 4, 5), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv(x)), 2)
        return torch.softmax(self.dense(x.view(x.size(0), -1)), dim=1)


class Block(nn.Module):
    """A block of ResNet: two convolutions, and a shortcut, which may hold a convolution too."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.Conv2d(after, after, 3, 1, 1)
        self.norm, self.last = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        same = stride == 1 and before == after
        self.short = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride), nn.BatchNorm2d(after))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.last(self.two(F.relu(self.norm(self.one(x))))) + self.short(x))


class Fire(nn.Module):
    """A block of SqueezeNet: parallel branches."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.squeeze, self.a, self.b = nn.Conv2d(before, 3, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.a(x)), F.relu(self.b(x))], 1)


torch.manual_seed(0)
branches = nn.Sequential(
    nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Block(6, 6, 1), Block(6, 8, 2),
    Fire(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 4),
).eval()  # fmt: skip
small, view = Small().eval(), View().eval()
for buffer in (*small.buffers(), *branches.buffers()):
    if buffer.dtype.is_floating_point and buffer.ndim == 1:
        buffer.data.uniform_(0.5, 1.5)
x, gray = torch.rand(2, 3, 23, 21), torch.rand(2, 1, 12, 12)
old = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
torch.onnx.export(small, x, str(OUT / "torch_legacy_11.onnx"), opset_version=11, **old)
torch.onnx.export(view, gray, str(OUT / "torch_view.onnx"), opset_version=12, **old)
torch.onnx.export(  # a batch of one, nothing folded, dropout kept
    small, x[:1], str(OUT / "torch_legacy_fixed.onnx"), dynamo=False, opset_version=13, do_constant_folding=False,
    training=torch.onnx.TrainingMode.PRESERVE,
)  # fmt: skip
wide = torch.rand(2, 3, 20, 18)
torch.onnx.export(branches, wide, str(OUT / "torch_branches_17.onnx"), opset_version=17, **old)
new = {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n")},)}
torch.onnx.export(small, (x,), str(OUT / "torch_dynamo.onnx"), external_data=True, **new)
torch.onnx.export(view, (gray,), str(OUT / "torch_dynamo_view.onnx"), external_data=False, **new)
torch.onnx.export(branches, (wide,), str(OUT / "torch_dynamo_branches.onnx"), external_data=False, **new)
