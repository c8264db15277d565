"""Backbones made from others: cut at another layer, or with a copy that is never trained."""

from dataclasses import replace

import keras

from tfvlad.backbones.backbone import FROZEN_COPY, Backbone, check_backbone, from_model
from tfvlad.compat import first_output


def aggregate_at(backbone: Backbone, layer: str) -> Backbone:
    """The backbone up to another feature map, where VLAD is to aggregate.

    An activation of the layer's own is split off as everywhere: "block4_conv3" of VGG is encoded
    before its ReLU. The layers are shared with `backbone`.

    Args:
        backbone: a frame backbone.
        layer: the name of a layer of `backbone.model` whose output is a map `(B, h, w, D)`, or
            "pooled" for the features after the last activation averaged to one location,
            `(B, 1, 1, D)`.

    Returns:
        A backbone with the blocks, or parts of them, that lie before the layer. It has no
        classifier, which fits the last map alone.

    Raises:
        ValueError: when there is no such layer, or the backbone has a frozen copy.

    Reference:
        Girdhar et al., ActionVLAD, the study of where to aggregate (conv and fc layers; for the
        latter see `dense_backbone`).
    """
    check_backbone(backbone)
    if backbone.has_frozen_copy:
        raise ValueError(
            f"'{backbone.name}' has a frozen copy already. Cut first: "
            "with_frozen_copy(aggregate_at(backbone, layer), block)."
        )
    model, name = backbone.model, f"{backbone.name}_{layer}"
    outputs = {inner.name: first_output(inner) for inner in model.layers[1:]}
    maps = [inner for inner, output in outputs.items() if len(output.shape) == 4]
    if layer == maps[-1]:
        return backbone
    if layer == "pooled":
        features = backbone.activation_layer(name="last_activation")(model.output)
        output = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pooled")(features)
    elif layer in maps:
        output = outputs[layer]
    else:
        raise ValueError(
            f"`layer` must be one of pooled, {', '.join(maps)}, the feature maps of "
            f"'{backbone.name}'. Received: layer={layer!r}."
        )
    cut = from_model(keras.Model(model.input, output), name=name)
    kept = {inner.name for inner in cut.model.layers}
    blocks = {
        block: tuple(inner for inner in names if inner in kept)
        for block, names in backbone.blocks.items()
    }
    return replace(cut, blocks={block: names for block, names in blocks.items() if names})


def with_frozen_copy(backbone: Backbone, block: str) -> Backbone:
    """Decouples the attention: the last blocks and a copy of them that is never trained.

    Both see the output of the blocks before `block`, which are shared and may be trained only where
    the copy's maps may change with them. VLAD encodes the maps of the trained blocks, the attention
    is computed from those of the copy. The other layers are shared with `backbone`.

    Args:
        backbone: a frame backbone with a classifier.
        block: the first block that is copied, a name in `backbone.blocks`.

    Returns:
        A backbone to maps of 2D channels: those of the trained blocks, then those of the copy. The
        copy is in no block: `set_trainable` leaves it frozen. It can be split at `block` and at the
        blocks before it.

    Raises:
        ValueError: when there is no such block, or a frozen copy already.

    Reference:
        Sudhakaran and Lanz, Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos, section 4.2 (the decoupled attention branch).
    """
    check_backbone(backbone)
    if backbone.has_frozen_copy:
        raise ValueError(f"'{backbone.name}' has a frozen copy already.")
    before, trained = backbone.split_at(block)
    copy = keras.models.clone_model(trained)
    for layer in trained.layers:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    copy = keras.Model(copy.inputs[0], copy.outputs[0], name=FROZEN_COPY, trainable=False)
    both = keras.layers.Concatenate(name="trained_and_frozen")(
        [backbone.model.output, copy(before.output)]
    )
    name = f"{backbone.name}_frozen_copy"
    model = keras.Model(backbone.model.input, both, name=name)
    return replace(backbone, name=name, model=model)
