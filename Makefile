# The front door. Every job is a target; the work is done by docker/*.sh (Caffe) and tools/*.py (everything else).
# `make help` prints the targets (their lines' ##) and the variables (the lines that begin with #:).
#
# setup, demo, dev, test, caffe and caffe-test build what they need. Every other target uses what is there, and says what to run
# where nothing is: using never fetches a compiler, and never turns a build for CPUs into one for GPUs.

#: Of the data and the run (with their defaults):
#:   VARIANT=vgg16             the net: a folder of prototxt/; for weights also mtcnn
#:   RUN=runs/VARIANT          the run folder. score, serve, eval, report and compare take the newest finished run if
#:                             neither RUN nor VARIANT is given
#:   MANIFEST=data/manifest.csv
#:                             the table of posts
#:   IMAGES=data/images        the pictures; score: a file or a folder
#:   LABELS=data/labels.csv    the labels
#:   LMDB=data/lmdb            the databases
#:   SEED=2015                 label, lmdb: the random seed
#:   JOBS=(all cores)          processes, and compilers, at a time
VARIANT  ?= vgg16
RUN      ?= runs/$(VARIANT)
MANIFEST ?= data/manifest.csv
IMAGES   ?= data/images
LABELS   ?= data/labels.csv
LMDB     ?= data/lmdb
SEED     ?= 2015
JOBS     ?= $(shell nproc)

#: Of the training:
#:   GPU=0                     train and score on that GPU (0,1: train on both); needs a Caffe for GPUs: make caffe CUDA=13
#:   EPOCHS=3                  train, ablation: epochs, that is how often each training selfie is seen (sets max_iter)
#:   BATCH=16                  train: selfies per iteration on each GPU (GPU=0,1: 32 per iteration)
#:   WEIGHTS=file              train, figures-run: another caffemodel to start from (train: none for random weights)
#:   SOLVER=file               train: another solver
#:   REPLACE=1                 train: remove an older run of that name first
#:   RESUME=1                  train: go on from the newest snapshot of RUN, with the data and options of its start (so the
#:                             same line with RESUME=1 added does it)
#: Of other targets:
#:   SERVER=host TAG=selfie    gather: whom to ask, and for which posts (docs/gather.md)
#:   TERMS_READ=host CONTACT=me@example.org
#:                             gather: you have read that server's terms; how its owner reaches you
#:   HTML=folder               score: write a page as well: what moved each score, best crops
#:   CROPS='a.jpg b.jpg'       report: pictures to find the best crops of
#:   ABLATION=demo             ablation: the net: demo, squeezenet or vgg16
#:   QUICK=1                   bench, bench-gpu: fewer and smaller measurements
#:   LONG=1, MINUTES=20        faults: two hours, or so many minutes, not six
#:   TORCH=python              bench-gpu: a Python that has PyTorch
#:   SERVER=url TOKEN_FILE=file
#:                             bot: the account's server, and its access token (docs/bot.md)
#:   HOST=0.0.0.0 PORT=8000    serve: where to listen (default: 127.0.0.1, port 8000; first read docs/serve.md)
#:   GATHER_FLAGS, LABEL_FLAGS, FACE_FLAGS, LMDB_FLAGS, TRAIN_FLAGS, GRID_FLAGS, MAP_FLAGS, SERVE_FLAGS,
#:   WEIGHT_FLAGS, ABLATION_FLAGS, BOT_FLAGS
#:                             more options for the command behind the target
ABLATION ?= demo

#: Of the set-up:
#:   CUDA=13                   caffe: build for GPUs, with that toolkit; 11.8 for the K40 and its time; 0: for CPUs again
#:   ARCH='80 90'              caffe: for GPUs of these architectures (default: this machine's, or else 90; CUDA=11.8: 35)
#:   CUDNN=0                   caffe: without cuDNN
#:   NCCL=1                    caffe: with NCCL, for training on several GPUs
#:                             CUDA, ARCH, CUDNN and NCCL hold until they are asked for otherwise
#:   CAFFE_TARBALL=file        Caffe's source, where it cannot be downloaded
#:   CAFFE_URL=address         the archive of Caffe's source, where apt has none (default: its home on GitHub)
#:   SELFIE_MIRROR=folder      where to look for weights and the published figures before downloading them
#:   PYTHON=/usr/bin/python3   the Python that .venv is made with: Debian's
#:   CAFFE_WHEEL=file          setup: take Caffe out of that wheel: nothing is built, and nobody needs to be root
#:   PREBUILT=1                all is set up already, elsewhere (in the images of docker/)
PYTHON   ?= /usr/bin/python3
VENV     := .venv
PY       := $(VENV)/bin/python
CAFFE    := build/caffe/bin/caffe

export JOBS
# Messages of the commands speak of make's variables (RESUME=1), not of their own options (--resume).
export SELFIE_MAKE := 1
# Huge pages behind large values, also where the system gives them on request only: nets are 5 to 10 % faster there.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

comma       := ,
quote       := '
odd         := $(quote) " ` \ ( ) & ; < > |
# A name as one word for the shell, also 'my photos'; a plain one, or a pattern, as it is. there: whether such a file exists.
is_odd       = $(filter-out 1,$(words $(1)))$(strip $(foreach each,$(odd),$(findstring $(each),$(1))))
quoted       = $(if $(is_odd),'$(subst $(quote),'\'',$(1))',$(1))
there        = $(shell [ -e $(call quoted,$(1)) ] 2>/dev/null && echo 1)
# Only what was set on the command line or in the environment becomes an option.
given        = $(filter command environment,$(firstword $(origin $(1))))
one_gpu      = $(if $(GPU),--gpu $(firstword $(subst $(comma), ,$(GPU))))
# HOST is set in many an environment, and means something else there.
listen       = $(if $(filter command,$(origin $(1))),$(if $(filter HOST,$(1)),--host,--port) $($(1)))
run          = $(if $(and $(RUN),$(call given,RUN)$(call given,VARIANT)),--run $(call quoted,$(RUN)))
start_flags  = --lmdb $(call quoted,$(LMDB)) $(if $(REPLACE),--replace) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(BATCH),--batch $(BATCH)) \
               $(if $(SOLVER),--solver $(call quoted,$(SOLVER))) $(if $(WEIGHTS),--weights $(call quoted,$(WEIGHTS))) \
               $(TRAIN_FLAGS)
# Several pictures may be scored, too.
images       = $(if $(or $(filter 1,$(words $(IMAGES))),$(call there,$(IMAGES))),$(call quoted,$(IMAGES)),$(IMAGES))
# A run that is resumed knows its variant.
variant      = $(if $(and $(RESUME),$(call given,RUN)),,--variant $(VARIANT))

.DEFAULT_GOAL := help
.PHONY: help setup system caffe dev caffe-test ready ready-python ready-dev weights gather faces label lmdb train eval calibrate report compare \
        ablation score serve bot demo figures-run reach prototxt test lint faults fuzz fuzz-nets bench bench-gpu gpu-carry \
        wheel wheel-setup clean distclean

help: ## list the targets and the variables
	@echo "Karpathy's selfie experiment of 2015 on real Caffe. On a fresh Debian 12 or 13:  make demo"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo
	@echo "Variables, after the target (make train EPOCHS=3):"
	@sed -n 's/^#: //p' Makefile

# --- set-up -------------------------------------------------------------------------------------------------------

wheel_here  = $(wildcard $(VENV)/bin/caffe)
ifneq ($(CAFFE_WHEEL),$(wildcard $(CAFFE_WHEEL)))
$(error CAFFE_WHEEL=$(CAFFE_WHEEL): no such file)
endif

# In the images of docker/ all is there, and nobody could install more. Where a wheel was taken, it stays: until make caffe.
setup: $(if $(PREBUILT),,$(if $(CAFFE_WHEEL)$(wheel_here),wheel-setup,caffe)) ## install Debian packages (root or sudo), .venv and Caffe: what is missing

what_setup_takes = "Setting up: about 6 minutes on two cores, 2.9 GB of disk (Debian packages 1.7, .venv 1.1, Caffe 0.1)"

have_python = $(or $(PREBUILT),$(wildcard $(PY)))
have_caffe  = $(or $(PREBUILT),$(wildcard $(CAFFE)),$(wheel_here))

system: ## the first part of setup: Debian packages that are missing (root or sudo)
	@$(if $(and $(have_python),$(have_caffe)),,echo $(what_setup_takes))
	@docker/setup_system.sh

# Made anew for another release of Debian, whose Python is another one.
installed := $(VENV)/.installed-$(notdir $(realpath $(PYTHON)))

for_use   := $(VENV)/.for-use-$(notdir $(realpath $(PYTHON)))
lists     := requirements.txt $(addprefix requirements-,cluster.txt convert.txt map.txt gather.txt serve.txt all.txt) pyproject.toml
pip        = $(PY) -m pip --quiet --disable-pip-version-check

# Both wheels of OpenCV have their files in the same places, so that one has to go before the other comes.
define install_packages
@echo "Installing Python packages into $(VENV)"
@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
@! $(PY) -m pip show --quiet opencv-python-headless 2>/dev/null || $(pip) uninstall --yes opencv-python opencv-python-headless
@$(pip) install $(2) -r $(1)
@$(pip) install --no-deps --editable .
endef

# OpenCV's windows, which we never open, want the system's libGL, and only root can install that. Where it is lacking the
# headless wheel comes instead: the same cv2 without them.
define without_windows
@$(PY) -c 'import cv2' 2>/dev/null || { $(pip) uninstall --yes opencv-python && \
  $(pip) install $$(sed -n 's/^opencv-python==/opencv-python-headless==/p' requirements.txt); }
endef

$(installed): $(lists) | system
	$(call install_packages,requirements-all.txt)
	@touch $@

# The set-up with a wheel of Caffe: neither Debian packages nor a compiler. Nor the bytecode of all packages, which would be two
# fifths of the work: Python makes it of what is imported.
$(for_use): $(lists)
	$(call install_packages,requirements-all.txt,--no-compile)
	$(without_windows)
	@touch $@

wheel-setup: $(for_use)
	$(if $(CAFFE_WHEEL),@$(pip) install --force-reinstall --no-deps $(CAFFE_WHEEL) && $(pip) install $(CAFFE_WHEEL))
	@said=$$($(PY) -c 'import caffe' 2>&1) || { echo "This wheel cannot be used here: $$(echo "$$said" | tail -n 1)" >&2; exit 1; }

caffe: $(installed) ## build Caffe from its pinned source with our patches into build/, for CPUs or (CUDA=13) GPUs
	@docker/build_caffe.sh caffe

wheel: | ready ready-dev ## pack the Caffe that was built into a wheel for this Python and for systems like this one: dist/
	$(PY) docker/make_wheel.py build/caffe/python/caffe

# What tests and lint take besides is half a gigabyte that nobody else needs.
for_dev := $(VENV)/.for-dev-$(notdir $(realpath $(PYTHON)))

dev: setup $(if $(PREBUILT),,$(for_dev)) ## setup, and the Python packages that tests and lint take

$(for_dev): $(lists) requirements-dev.txt | setup
	@echo "Installing the packages of tests and lint into $(VENV)"
	@$(pip) install -r requirements-dev.txt
	@touch $@

caffe-test: caffe dev ## build and run upstream's own tests of Caffe and pycaffe
	@docker/build_caffe.sh test

# What every target asks for that only uses the set-up. The error is make's own, so that it is the only line.
ready: ready-python
	@$(if $(have_caffe),,$(error Caffe is not built here: run 'make setup'))

ready-python:
	@$(if $(have_python),,$(error $(VENV) is not set up here: run 'make setup'))

ready-dev:
	@$(if $(or $(PREBUILT),$(wildcard $(VENV)/bin/ruff)),,$(error What tests and lint take is not in $(VENV): run 'make dev'))

# --- the experiment -----------------------------------------------------------------------------------------------

weights: | ready ## fetch the pretrained weights of VARIANT: vgg16, vgg_face, squeezenet, or mtcnn (which finds faces)
	$(PY) tools/fetch_weights.py $(VARIANT) $(WEIGHT_FLAGS)

gather: | ready-python ## note posts of SERVER with TAG, count their likes at 30 days, fetch their pictures: data/gathered
	$(PY) tools/gather.py $(if $(SERVER),--server '$(SERVER)') $(if $(TAG),--tag '$(TAG)') \
	      $(if $(CONTACT),--contact '$(CONTACT)') $(if $(TERMS_READ),--terms-read '$(TERMS_READ)') $(GATHER_FLAGS)

faces: | ready ## keep the selfies with a face: MANIFEST -> data/with_faces.csv
	$(PY) tools/filter_faces.py --manifest $(call quoted,$(MANIFEST)) --images $(call quoted,$(IMAGES)) \
	      --out data/with_faces.csv --jobs $(JOBS) $(FACE_FLAGS)

label: | ready ## label good and bad by likes, normalised by audience: MANIFEST -> LABELS
	$(PY) tools/label.py --manifest $(call quoted,$(MANIFEST)) --images $(call quoted,$(IMAGES)) \
	      --out $(call quoted,$(LABELS)) --seed $(SEED) $(LABEL_FLAGS)

lmdb: | ready ## build the train, val and test databases: LABELS, IMAGES -> LMDB
	$(PY) tools/make_lmdb.py --labels $(call quoted,$(LABELS)) --images $(call quoted,$(IMAGES)) \
	      --out $(call quoted,$(LMDB)) --seed $(SEED) --jobs $(JOBS) $(LMDB_FLAGS)

train: | ready ## finetune VARIANT on LMDB in RUN; RESUME=1 goes on where it stopped
	$(PY) tools/train.py $(variant) --run $(call quoted,$(RUN)) $(if $(GPU),--gpu $(GPU)) $(if $(RESUME),--resume,$(start_flags))

eval: | ready ## accuracy, AUC and plots of RUN on its test selfies
	$(PY) tools/evaluate.py $(run) $(one_gpu)

calibrate: | ready ## make RUN as confident as its validation selfies say that it may be, by a temperature in its weights
	$(PY) tools/calibrate.py $(run) $(one_gpu)

report: | ready ## evaluate RUN and show what the post shows, as one page: grids, findings, crops (CROPS), map, filters
	$(PY) tools/evaluate.py $(run) $(one_gpu)
	@$(MAKE) --no-print-directory $(report_parts)
	$(PY) tools/report.py $(run)

# Each writes files of its own, so that make -j has them at the same time.
report_grids := $(addprefix report-,continuum best worst posneg)
report_parts := report-findings report-crops report-map report-filters $(report_grids)
.PHONY: $(report_parts)

$(report_grids): report-%: | ready
	$(PY) tools/grids.py $* $(run) $(GRID_FLAGS)

report-findings: | ready
	$(PY) tools/findings.py $(run) $(if $(call there,$(MANIFEST)),--manifest $(call quoted,$(MANIFEST))) --jobs $(JOBS)

report-crops: | ready
	$(if $(CROPS),$(PY) pycaffe_scripts/crops.py $(run) $(one_gpu) $(CROPS))

report-map: | ready
	$(PY) tools/tsne_map.py $(run) $(one_gpu) $(MAP_FLAGS)

report-filters: | ready
	$(PY) pycaffe_scripts/filters.py $(run) $(one_gpu)

compare: | ready ## compare RUN with the original: the published figures as a test set, the protocol
	$(PY) tools/fetch_weights.py squeezenet
	$(PY) tools/compare_paper.py $(run) --download $(one_gpu)

ablation: | ready ## the post's ablations of ABLATION: dropout, start weights, several seeds (LMDB, EPOCHS, GPU)
	$(PY) tools/ablations.py --net $(ABLATION) $(if $(call given,LMDB),--lmdb $(call quoted,$(LMDB))) $(if $(EPOCHS),--epochs $(EPOCHS)) \
	      $(if $(GPU),--gpu $(GPU)) $(ABLATION_FLAGS)

score: | ready ## score IMAGES (a file or a folder) with RUN, best first; HTML=folder: as a page as well
	$(PY) tools/score.py $(run) $(one_gpu) --sort --lenient $(if $(HTML),--html $(call quoted,$(HTML))) $(images)

serve: | ready ## show a page that scores pictures with RUN, for this machine (HOST, PORT), and answer programs
	$(PY) tools/serve.py $(run) $(one_gpu) $(call listen,HOST) $(call listen,PORT) $(SERVE_FLAGS)

bot: | ready ## answer who mentions an account on SERVER (TOKEN_FILE: its access token) with a selfie, by RUN
	$(PY) tools/bot.py $(if $(SERVER),--server '$(SERVER)') $(if $(TOKEN_FILE),--token-file '$(TOKEN_FILE)') $(run) \
	      $(one_gpu) $(BOT_FLAGS)

# --- whole runs -----------------------------------------------------------------------------------------------------

DEMO := data/demo

# Much of what a report takes is the time of one core, and of commands that start. On a GPU they would share its memory.
two_at_a_time = --jobs $(if $(or $(GPU),$(filter 1,$(JOBS))),1,2) --output-sync=target

demo: setup ## set up, then the whole job on generated pictures, from faces and labels to the report (2 minutes)
	$(PY) tools/demo_corpus.py --out $(DEMO)/pretraining --pretraining
	$(PY) tools/make_lmdb.py --labels $(DEMO)/pretraining/labels.csv --images $(DEMO)/pretraining/images \
	      --out $(DEMO)/pretraining-lmdb --raw --force
	$(PY) tools/train.py --variant demo_pretrain --run runs/demo_pretrain --replace $(one_gpu)
	$(PY) tools/demo_corpus.py --out $(DEMO)/corpus
	$(PY) tools/filter_faces.py --manifest $(DEMO)/corpus/manifest.csv --images $(DEMO)/corpus/images \
	      --out $(DEMO)/with_faces.csv --detector lbp
	$(PY) tools/label.py --manifest $(DEMO)/with_faces.csv --images $(DEMO)/corpus/images --out $(DEMO)/labels.csv \
	      --as-of 2015-10-25 --split 0.7,0.1,0.2
	$(PY) tools/make_lmdb.py --labels $(DEMO)/labels.csv --images $(DEMO)/corpus/images --out $(DEMO)/lmdb --force
	$(PY) tools/train.py --variant demo --lmdb $(DEMO)/lmdb --run runs/demo --replace $(one_gpu)
	$(MAKE) --no-print-directory $(two_at_a_time) report RUN=runs/demo MANIFEST=$(DEMO)/with_faces.csv \
	      CROPS="$$(ls $(DEMO)/corpus/images/s*.jpg | head -6 | tr '\n' ' ')"
	$(PY) tools/demo_corpus.py --out $(DEMO)/corpus --best $(DEMO)/labels.csv
	@echo "Now open runs/demo/report/index.html"

figures_net := $(if $(call given,VARIANT),$(VARIANT),squeezenet)
figures_run := runs/figures$(addprefix -,$(filter-out squeezenet,$(figures_net)))

figures_weights := $(if $(WEIGHTS),--weights $(WEIGHTS))
# By name; a file is there. The probe that runs are compared with is SqueezeNet's.
figures_fetched := $(sort squeezenet $(if $(WEIGHTS),$(filter-out $(wildcard $(WEIGHTS)),$(WEIGHTS)),$(figures_net)))

define figures_tiles
for name in $(figures_fetched); do $(PY) tools/fetch_weights.py "$$name" || exit; done
$(PY) tools/cut_figures.py --out data/figures --whole-continuum
$(PY) tools/make_lmdb.py --labels data/figures/labels.csv --images data/figures/tiles --out data/figures/lmdb --raw \
      --detail 32 --force
endef

figures-run: | ready ## heads on ImageNet features (VARIANT=vgg16 or vgg16_torchvision: VGG16's), trained on the post's own published tiles
	$(figures_tiles)
	$(PY) tools/reach.py --net $(figures_net) $(figures_weights) --run $(figures_run)
	$(PY) tools/compare_paper.py --run $(figures_run) $(one_gpu)
	$(MAKE) --no-print-directory report RUN=$(figures_run) MANIFEST= GRID_FLAGS="--rows 4 --columns 5" \
	      MAP_FLAGS="--perplexity 15" CROPS="$$(ls $(VENV)/lib/python3*/site-packages/skimage/data/astronaut.png)"

reach: | ready ## order the published continuum by every recipe of figures-run, the chosen one first
	$(figures_tiles)
	$(PY) tools/reach.py --net $(figures_net) $(figures_weights)

# --- for developers ------------------------------------------------------------------------------------------------

prototxt: | ready-python ## regenerate the files of prototxt/
	$(PY) tools/make_prototxt.py

# The tests call the commands by themselves, and expect their own words. Much of their time is that of single processes
# that start: two workers take little more than half of it. Each has a module of tests at a time, and 2 GB of memory.
test: dev ## set up, then run the tests, two modules at a time (JOBS=1: one)
	$(if $(wheel_here),$(without_windows))
	env --unset=SELFIE_MAKE $(PY) -m pytest -n $(JOBS) --maxprocesses 2 --dist loadfile

lint: | ready-python ready-dev ## ruff, mypy, cpplint, the prototxts against their generator, the library's layers (without Caffe)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m cpplint --quiet --recursive docker/caffe docker/caffe-cuda
	$(PY) tools/make_prototxt.py --check
	$(PY) -m pytest -q tests/test_layers.py

# Where it may mount (as root), commands also meet a full disk.
faults: | ready ready-dev ## stop, double, starve and mislead the commands, and count what comes of it: 6 minutes (LONG=1: 2 h; MINUTES)
	PYTHONPATH=tests TQDM_DISABLE=1 $(PY) -m faults --log build/faults.jsonl $(if $(LONG),--minutes 120) $(if $(MINUTES),--minutes $(MINUTES))

bench: | ready ## measure everything beside its peers: table, build/bench/bench.json (QUICK=1: minutes)
	$(PY) tools/bench.py $(if $(QUICK),--quick)

bench-gpu: | ready ## measure a GPU build beside PyTorch on the same card (GPU, TORCH, QUICK)
	$(PY) tools/bench_gpu.py $(if $(GPU),--device $(firstword $(subst $(comma), ,$(GPU)))) $(if $(QUICK),--quick) \
	      $(if $(TORCH),--torch $(TORCH))

gpu-carry: | ready ## collect what tools/gpu_check.sh takes on a machine with a GPU, PyTorch and no network: build/gpu-carry
	$(PY) tools/gpu_carry.py

fuzz: | ready ## give Caffe damaged caffemodels, prototxts and solverstates, COUNT (2000) of each (SEED)
	$(PY) docker/fuzz_caffe.py $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

fuzz-nets: | ready ## compare COUNT (1000) random nets for each set of instructions with Caffe's own layers (SEED)
	$(PY) docker/fuzz_nets.py $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

clean: ## remove caches; keep .venv, build, data, weights and runs
	find . -name __pycache__ -not -path './.venv/*' -not -path './build/*' -prune -exec rm -r {} +
	rm -rf .pytest_cache .ruff_cache .mypy_cache

distclean: clean ## remove .venv and build as well; data, weights and runs are yours and stay
	rm -rf .venv build tools/*.egg-info
