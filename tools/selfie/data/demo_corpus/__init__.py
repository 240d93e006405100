"""The demo corpus: selfie-like pictures around one real face, with popularity rules that are planted and so known.

Everything comes out of scikit-image's wheel: the public-domain portrait (astronaut.png) is cut out and set before its
other pictures. Nothing is downloaded. Each selfie has attributes that move its likes, drawn independently of each
other and of the audience, and nuisances (place, tilt, mirror, background, colours) that do not:

    quality = LIGHT * stops                        light: 0 stops is full light, -3 is deep dusk with noise
            - HEAD * log2(face / BEST_FACE)^2      face: side of the face as a fraction of the side of a square picture
                                                   of the same area, so face^2 is its share of the picture
            - GROUP  if more than one head is in the picture
            + BORDER if it has a white border
            + FILTER if a filter was used (faded, low contrast, washed out, black and white)
    reach   = followers * (1 + TAG_BONUS * (tags - 1))
    likes   = round(RATE * reach * exp(quality - mean quality + NOISE * standard normal))

That is the post's list, with the rest of it (gender, hair) left out. On top comes planted trouble for the filters of
the pipeline: pictures without a face, broken files, duplicates, missing or impossible fields, spam.
"""
