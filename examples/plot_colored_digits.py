"""
A classifier that looks at colors, and one that does not
========================================================

Handwritten digits, tinted so that the color gives the digit away in 95 of 100 cases. Whoever learns from them learns
the color. We make images in which color and digit have nothing to do with each other, and look at what classifiers
learn from either.
"""

# %%
# The images
# ----------
# In training each digit mostly has its own color. In the ``reversed`` test set it mostly has that of another digit.

import fairsynth as fs
from fairsynth import images

train = fs.load_images("colored-digits")
test = fs.load_images("colored-digits", split="test")
others = {name: fs.load_images("colored-digits", split=name) for name in ("decorrelated", "reversed")}
print(train)

# %%
# A fair generator
# ----------------
# It sees the biased images and nothing else.

teacher = images.FairVAE(seed=0).fit(train)
synthetic = teacher.sample(3_000, seed=0)

# %%
# One latent, drawn for every color: the digit stays.

import matplotlib.pyplot as plt

switched = teacher.pictures(seed=0)["switched"]
levels, columns = switched.shape[:2]
figure, axes = plt.subplots(levels, columns, figsize=(columns * 0.6, levels * 0.6))
for row, line in zip(axes, switched, strict=True):
    for place, image in zip(row, line, strict=True):
        place.imshow(image)
        place.set_axis_off()
figure.tight_layout(pad=0.2)

# %%
# What classifiers learn
# ----------------------
# One is trained on the real images, one on the synthetic ones; both are tested on real images that nothing has seen.

evaluation = images.evaluate_images(train, test, synthetic, others=others, seed=0)
names = ["test", *others]
right = {
    source: [evaluation.value("accuracy", source, column=None if name == "test" else name) for name in names]
    for source in ("real", "synthetic")
}
figure, axis = plt.subplots(figsize=(6, 3))
for i, (source, values) in enumerate(right.items()):
    axis.bar(
        [k + 0.38 * i for k in range(len(names))], values, width=0.36, label=f"trained on {source} images"
    )
axis.set_xticks([k + 0.19 for k in range(len(names))], names)
axis.set_ylabel("right on real images")
axis.set_ylim(0, 1)
axis.legend(loc="lower left")
figure.tight_layout()

# %%
# Color alone, shape alone
# ------------------------
# How many decisions change when a real image is shown in another image's color, and when another image's shape is shown
# in its color.

for source in ("real", "synthetic"):
    color = evaluation.value("colour_flip_rate", source)
    shape = evaluation.value("shape_flip_rate", source)
    print(f"trained on {source:<10} color alone {color:.3f}   shape alone {shape:.3f}")
