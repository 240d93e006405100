"""A net under construction: layers appended one by one to a NetParameter message made of dicts."""

from __future__ import annotations

from selfie.net.prototxt import Token


class NetBuilder:
    """A net under construction: `top` is the blob that the next layer reads, `message` the NetParameter so far."""

    def __init__(self, name: str, trained: bool, learns_from: str = "") -> None:
        """Begin a net.

        trained       write what only training needs (fillers, learning-rate multipliers)
        learns_from   layers before the first one whose name begins so keep their weights; Caffe does not even propagate
                      back to them
        """
        self.message: dict = {"name": name, "layer": []}
        self.trained = trained
        self.learns_from, self.learning = learns_from, False
        self.top = "data"

    def layer(
        self,
        name: str,
        kind: str,
        *,
        bottom: str | list[str] | None = None,
        top: str | list[str] | None = None,
        **fields: object,
    ) -> str:
        """Append a layer that reads the current top and writes a blob of its own name, unless said otherwise."""
        self.message["layer"].append(
            {
                "name": name,
                "type": kind,
                "bottom": self.top if bottom is None else bottom,
                "top": name if top is None else top,
                **fields,
            }
        )
        self.top = self.message["layer"][-1]["top"]
        return self.top

    def learned(self, name: str, kind: str, settings: dict, head: bool = False) -> str:
        """Append a layer with weights and bias. A head is new: it starts small and learns ten times as fast."""
        fields: dict = {}
        self.learning = self.learning or name.startswith(self.learns_from)
        if self.trained:
            rate = 0 if not self.learning else 10 if head else 1
            fields["param"] = [{"lr_mult": rate, "decay_mult": 1}, {"lr_mult": 2 * rate, "decay_mult": 0}]
            settings = {**settings, "weight_filler": self._filler(head)}
        key = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}[kind]
        fields[key] = settings
        return self.layer(name, kind, **fields)

    def _filler(self, head: bool) -> dict:
        """Return a filler: He et al. 2015, but in the first layer, for which pixels are some sixty times too large."""
        if head:
            return {"type": "gaussian", "std": 0.01}
        pixels = self.message["layer"][-1]["name"] in ("data", "pool0")
        return {"type": "gaussian", "std": 0.003} if pixels else {"type": "msra"}

    def conv(self, name: str, outputs: int, kernel: int, *, pad: int = 0, stride: int = 1, head: bool = False) -> str:
        """Append a convolution; zero padding and unit stride are not written."""
        settings = {"num_output": outputs, "pad": pad, "kernel_size": kernel, "stride": stride}
        defaults = {"pad": 0, "stride": 1}
        return self.learned(
            name, "Convolution", {key: value for key, value in settings.items() if defaults.get(key) != value}, head
        )

    def relu(self, name: str) -> str:
        """Rectify the current top in place."""
        return self.layer(name, "ReLU", top=self.top)

    def conv_relu(self, name: str, outputs: int, kernel: int, relu: str, pad: int = 0, stride: int = 1) -> str:
        """Append a convolution, then a ReLU called `relu`."""
        self.conv(name, outputs, kernel, pad=pad, stride=stride)
        return self.relu(relu)

    def pool(self, name: str, kernel: int, stride: int, kind: str = "MAX") -> str:
        """Append max (MAX) or average (AVE) pooling."""
        return self.layer(name, "Pooling", pooling_param={"pool": Token(kind), "kernel_size": kernel, "stride": stride})

    def fully_connected(self, name: str, outputs: int, side: int, as_convolution: bool, head: bool = False) -> str:
        """Append a fully connected layer over a side x side map, or the same as a convolution called <name>-conv."""
        if as_convolution:
            return self.conv(f"{name}-conv", outputs, side, head=head)
        return self.learned(name, "InnerProduct", {"num_output": outputs}, head)
