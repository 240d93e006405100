"""@deepselfie again: whoever mentions the bot with a selfie is told its score.

network  mentions and answers, as a social network has them; mastodon and x are two
ledger   what has become of each mention: written before anything is sent
words    what the bot says
bot      one mention after the other: read it, look at its picture, answer it
"""
