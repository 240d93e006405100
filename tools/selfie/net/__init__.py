"""The only package that knows Caffe: nets described, generated, loaded, fed, changed and measured."""
