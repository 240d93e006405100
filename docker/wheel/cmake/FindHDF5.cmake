# In place of CMake's own, which asks HDF5's compiler wrapper: the static libraries of build_wheels.sh.
find_path(HDF5_INCLUDE_DIRS hdf5.h)
find_library(HDF5_LIBRARIES libhdf5.a)
find_library(HDF5_HL_LIBRARIES libhdf5_hl.a)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(HDF5 DEFAULT_MSG HDF5_HL_LIBRARIES HDF5_LIBRARIES HDF5_INCLUDE_DIRS)
set(HDF5_HL_LIBRARIES ${HDF5_HL_LIBRARIES} ${HDF5_LIBRARIES})
