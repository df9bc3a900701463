# For building against ROS 2 wheels installed by pip; a ROS 2 install does not need it.
# Passed as CMAKE_PROJECT_TOP_LEVEL_INCLUDES, it fixes two things once everything is declared:
# - The wheels' exported targets name include directories of the machine that built them, and CMake
#   refuses imported targets with directories that do not exist: those are dropped.
# - The virtual environment lies inside the source tree, and CMake refuses to export a target with an
#   include directory from there (numpy's): those are kept for this build only.

function(drop_missing_include_directories target)
  get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT directories)
    return()
  endif()
  set(present "")
  foreach(directory IN LISTS directories)
    if(directory MATCHES "\\$<" OR EXISTS "${directory}")
      list(APPEND present "${directory}")
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
endfunction()

function(keep_environment_out_of_exports target)
  get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT directories)
    return()
  endif()
  set(wrapped "")
  foreach(directory IN LISTS directories)
    if(directory MATCHES "^${CMAKE_SOURCE_DIR}/\\.venv[^/]*/")
      set(directory "$<BUILD_INTERFACE:${directory}>")
    endif()
    list(APPEND wrapped "${directory}")
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${wrapped}")
endfunction()

function(fix_include_directories)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS imported)
    drop_missing_include_directories(${target})
  endforeach()
  get_property(own DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS own)
    keep_environment_out_of_exports(${target})
  endforeach()
endfunction()

cmake_language(DEFER CALL fix_include_directories)
