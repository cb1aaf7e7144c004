"""Group normalisation in place of batch normalisation: where batches must not mix. Lab only: torch."""

import math

from torch import nn

_GROUPS = 32  # at most (Wu & He, ECCV 2018)


def with_group_norm(network: nn.Module) -> nn.Module:
    """Replace every batch normalisation of a network by a group normalisation with the same scale and shift.

    The number of groups is the greatest common divisor of 32 and the number of channels.

    Returns:
        The network itself, changed.
    """
    for name, module in list(network.named_children()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            group = nn.GroupNorm(math.gcd(_GROUPS, module.num_features), module.num_features, module.eps, module.affine)
            if module.affine:
                group.load_state_dict({"weight": module.weight.detach(), "bias": module.bias.detach()})
            group.train(module.training)
            # timm's batch normalisations apply the activation behind them as well.
            behind = [
                part for part in (getattr(module, "drop", None), getattr(module, "act", None)) if part is not None
            ]
            setattr(network, name, nn.Sequential(group, *behind) if behind else group)
        else:
            with_group_norm(module)
    return network
