"""Do pre-trained features lose to the custom CNN, as the paper says, and which mistake would make them?

``python experiments/pretraining.py [OVERRIDE ...]``: EfficientNet-Lite0, whose ImageNet weights come with a
package, fine-tuned, frozen and from scratch, with the pixel statistics that its weights expect and with wrong
ones, against the paper's model.
"""

from aunet.reproduce import run

ROWS = (
    "ours", "from_scratch", "fine_tuned", "fine_tuned_wrong_pixels", "frozen", "frozen_wrong_pixels",
    "frozen_raw_pixels",
)  # fmt: skip

if __name__ == "__main__":
    run("pretraining", ("seed=0,1,2",), ROWS)
