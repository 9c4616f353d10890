#!/usr/bin/env bash
# Builds the Ascend C operators into a CANN operator package and installs it. Needs CANN (its environment sourced) and
# mindspore, whose compiler for custom operators does the work.
#
#   csrc/ascend_build.sh [INSTALL_FOLDER]
#
# INSTALL_FOLDER: where the package goes, ~/maam_ops_ascend by default.
# SOC: which chips to build for, "ascend910b" by default; also for example "ascend910_93".
# PYTHON: the interpreter with mindspore, "python3" by default.
set -euo pipefail

fail() {
  echo "ascend_build.sh: $1" >&2
  exit 1
}

csrc=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
install=${1:-$HOME/maam_ops_ascend}
soc=${SOC:-ascend910b}
vendor=maam_ops

[[ -d ${ASCEND_HOME_PATH:-} ]] || fail "ASCEND_HOME_PATH is not a folder: source CANN's set_env.sh first"
mindspore=$("$python" -c 'import importlib.util as u; print(u.find_spec("mindspore").submodule_search_locations[0])') ||
  fail "$python has no mindspore: set PYTHON"
compiler=$mindspore/lib/plugin/ascend/custom_compiler
[[ -f $compiler/setup.py ]] || fail "$compiler/setup.py is missing: this mindspore cannot build Ascend operators"

# The compiler works in its own folder and takes all operators from two flat ones, so everything goes into a copy.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
mkdir -p "$build/op_host" "$build/op_kernel" "$install"
cp "$csrc"/*/ascend/op_host/* "$build/op_host"
cp "$csrc"/*/ascend/op_kernel/* "$build/op_kernel"
cp "$compiler"/*.py "$compiler"/*.sh "$build"
cd "$build"
"$python" setup.py --op_host_path op_host --op_kernel_path op_kernel --soc_version "$soc" --vendor_name "$vendor" \
  --ascend_cann_package_path "$ASCEND_HOME_PATH" --install_path "$install"

echo "Installed. Before running:"
echo "  export ASCEND_CUSTOM_OPP_PATH=$install/vendors/$vendor:\${ASCEND_CUSTOM_OPP_PATH:-}"
echo "  export LD_LIBRARY_PATH=$install/vendors/$vendor/op_api/lib:\${LD_LIBRARY_PATH:-}"
